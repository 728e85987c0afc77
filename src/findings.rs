//! The results of `agimo check --cluster`: what was checked, with which result, and how to fix it.

use serde::Serialize;
use serde_json::json;

use crate::telemetry::printable::printable_whole;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What is the case.
    pub text: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is to be done.
    Ok,
    /// The check was not possible, or it does not apply.
    Skipped,
    /// agimo works, but a wake takes longer than necessary, or something is about to fail.
    Warning,
    /// Requests fail, or a workload does not wake or sleep.
    Failed,
}

/// The findings of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    pub name: String,
    pub findings: Vec<Finding>,
}

/// More sections than this are shortened for people.
const MOST_IN_FULL: usize = 20;

// === impl Finding ===

impl Finding {
    pub fn ok(text: impl Into<String>) -> Self {
        Self { level: Level::Ok, text: text.into(), fix: None }
    }

    pub fn skipped(text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Skipped, text: text.into(), fix: Some(fix.into()) }
    }

    pub fn warning(text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warning, text: text.into(), fix: Some(fix.into()) }
    }

    pub fn failed(text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Failed, text: text.into(), fix: Some(fix.into()) }
    }
}

// === impl Section ===

impl Section {
    /// A finding that several replicas make is kept once.
    pub fn new(name: impl Into<String>, findings: Vec<Finding>) -> Self {
        let mut section = Self { name: name.into(), findings: Vec::new() };
        section.add(findings);
        section
    }

    /// Adds the findings that are not there yet.
    pub fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }
}

// === impl Level ===

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        }
    }
}

/// How many findings have this level.
pub fn count(sections: &[Section], level: Level) -> usize {
    sections
        .iter()
        .flat_map(|section| &section.findings)
        .filter(|found| found.level == level)
        .count()
}

/// Replaces sections without problems by one line where there are many sections, so that problems stay visible.
fn shortened(sections: Vec<Section>) -> Vec<Section> {
    if sections.len() <= MOST_IN_FULL {
        return sections;
    }
    let is_sound =
        |section: &Section| section.findings.iter().all(|found| found.level == Level::Ok);
    let (sound, mut shown): (Vec<_>, Vec<_>) = sections.into_iter().partition(is_sound);
    if !sound.is_empty() {
        let name = format!("{} more, all checks ok", sound.len());
        shown.push(Section { name, findings: Vec::new() });
    }
    shown
}

/// For people: a line for each finding, below it the fix, and a summary. Texts of the cluster cannot control the terminal.
pub fn text(sections: &[Section]) -> String {
    let clean = |text: &str| printable_whole(text.as_bytes());
    let mut lines = Vec::new();
    for Section { name, findings } in shortened(sections.to_vec()) {
        lines.push(clean(&name));
        for Finding { level, text, fix } in findings {
            lines.push(format!("  {:<7}  {}", level.as_str(), clean(&text)));
            lines.extend(fix.iter().map(|fix| format!("           fix: {}", clean(fix))));
        }
        lines.push(String::new());
    }
    let [ok, skipped, warnings, failed] =
        [Level::Ok, Level::Skipped, Level::Warning, Level::Failed]
            .map(|level| count(sections, level));
    let s = if warnings == 1 { "" } else { "s" };
    lines.push(format!("{failed} failed, {warnings} warning{s}, {ok} ok, {skipped} skipped"));
    lines.join("\n") + "\n"
}

/// For programs.
pub fn json(sections: &[Section]) -> String {
    let result = json!({ "failed": count(sections, Level::Failed), "sections": sections });
    format!("{result:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_sections_those_with_problems_are_shown() {
        let section = |at: usize| {
            let finding =
                if at == 7 { Finding::failed("no pod", "wait") } else { Finding::ok("ready") };
            Section { name: format!("service {at}"), findings: vec![finding] }
        };
        let few: Vec<_> = (0..MOST_IN_FULL).map(section).collect();
        assert_eq!(shortened(few.clone()), few);
        let shown = shortened((0..1_000).map(section).collect());
        let names: Vec<_> = shown.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(names, ["service 7", "999 more, all checks ok"]);
    }

    #[test]
    fn findings_are_printed_below_their_section_with_a_summary() {
        let findings = vec![
            Finding::ok("the API server answers"),
            Finding::failed("no pod\u{1b}[2J is ready", "kubectl describe pod"),
        ];
        let sections = [Section { name: "agimo".to_owned(), findings }];
        let text = text(&sections);
        assert!(
            text.starts_with("agimo\n  ok       the API server answers\n  FAILED   no pod"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
        let end = " is ready\n           fix: kubectl describe pod\n\n1 failed, 0 warnings, 1 ok, 0 skipped\n";
        assert!(text.ends_with(end), "{text}");
        let json: serde_json::Value = serde_json::from_str(&json(&sections)).unwrap();
        assert_eq!(
            (&json["failed"], &json["sections"][0]["findings"][1]["level"]),
            (&1.into(), &"failed".into())
        );
    }
}
