//! Whole runs, of which the text is checked: what changes in a decision shows here.

use super::*;

fn model(target_concurrency: Option<u32>) -> Model {
    let autoscaling = AutoscalingConfig { target_concurrency, ..AutoscalingConfig::default() };
    Model {
        sleep_after: Duration::from_secs(60),
        autoscaling: Some(autoscaling).filter(|config| config.has_target()),
        cold_start: Duration::from_secs(2),
    }
}

fn report(csv: &str, duration: Duration, model: &Model) -> String {
    report::text(&run(&Trace::read(csv, duration).unwrap(), model))
}

fn assert_lines(text: &str, expected: &[&str]) {
    assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn a_sparse_load_sleeps_between_its_requests() {
    let csv = "seconds,requests\n0,1\n1,0\n300,1\n301,0\n330,1\n331,0\n";
    let expected = [
        "time simulated    0:06:36",
        "cold starts       2",
        "requests held     2, for 2.0 s on average",
        "held seconds      4",
        "peak replicas     1",
        "replica-hours     0.04, 0.07 less than the peak all the time",
        "",
        "replicas over time",
        "     0:00:00  1",
        "     0:01:03  0",
        "     0:05:00  1",
        "     0:06:31  0",
    ];
    assert_lines(&report(csv, Duration::from_millis(100), &model(None)), &expected);
}

#[test]
fn a_crowd_counts_at_once_and_leaves_step_by_step() {
    let csv = "0,400\n1,0\n10,3000 # a hundred each second, for half a minute\n40,0\n";
    let expected = [
        "time simulated    0:02:15",
        "cold starts       1",
        "requests held     400, for 2.0 s on average",
        "held seconds      800",
        "peak replicas     8",
        "replica-hours     0.15, 0.15 less than the peak all the time",
        "",
        "replicas over time",
        "     0:00:00  8",
        "     0:01:03  4",
        "     0:01:04  2",
        "     0:01:05  1",
        "     0:01:41  0",
    ];
    assert_lines(&report(csv, Duration::from_secs(1), &model(Some(50))), &expected);
}

#[test]
fn a_load_that_rises_and_falls_is_followed() {
    let mut csv = String::new();
    for minute in 0..20_u64 {
        let requests = 60 * 20 * minute.min(20 - minute);
        csv += &format!("{},{requests}\n", minute * 60);
    }
    let expected = [
        "time simulated    0:21:04",
        "cold starts       1",
        "requests held     40, for 1.5 s on average",
        "held seconds      60",
        "peak replicas     10",
        "replica-hours     1.88, 1.63 less than the peak all the time",
        "",
        "replicas over time",
        "     0:01:00  2",
        "     0:01:01  4",
        "     0:02:03  2",
        "     0:03:01  3",
        "     0:04:01  4",
        "     0:05:01  5",
        "     0:06:01  6",
        "     0:07:01  7",
        "     0:08:01  8",
        "     0:09:01  9",
        "     0:10:01  10",
        "     0:12:00  9",
        "     0:13:00  8",
        "     0:14:00  7",
        "     0:15:00  6",
        "     0:16:00  5",
        "     0:17:00  4",
        "     0:18:00  3",
        "     0:19:00  2",
        "     0:20:00  1",
        "     0:21:00  0",
    ];
    assert_lines(&report(&csv, Duration::from_millis(500), &model(Some(10))), &expected);
}

#[test]
fn the_answer_of_prometheus_is_the_same_as_csv() {
    let json = r#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"pod":"a"},"values":[[1700000000,"0.5"],[1700000010,"0"]]},
        {"metric":{"pod":"b"},"values":[[1700000000,"1.5"],[1700000010,"2"]]}]}}"#;
    let duration = Duration::from_secs(1);
    let csv = Trace::read("0,20\n10,20", duration).unwrap();
    assert_eq!(Trace::read(json, duration).unwrap(), csv);
    assert_eq!(csv.arrivals, [2.0; 20]);
}

#[test]
fn a_wrong_trace_is_an_error_that_names_its_line() {
    let error = |text: &str| Trace::read(text, Duration::ZERO).unwrap_err().to_string();
    assert!(error("").contains("write lines such as 0,12"));
    assert!(error("seconds,requests\n0;1").starts_with("line 2: write seconds and requests"));
    assert!(error("0,1\n0,1").starts_with("line 2: its time is not after"));
    assert!(error("0,-1").contains("line 1: the second column"));
    assert!(error("0,1\n9999999999,1").contains("longer than 31 days"));
    assert!(error("{}").contains("no answer of /api/v1/query_range"));
    assert!(
        error("{\"status\":\"error\",\"data\":{\"resultType\":\"\",\"result\":[]}}")
            .contains("not a matrix")
    );
}

#[test]
fn json_and_svg_have_every_second() {
    let run = run(&Trace::read("0,5", Duration::from_secs(1)).unwrap(), &model(Some(1)));
    let json = report::json(&run);
    assert_eq!(json["seconds"].as_array().unwrap().len(), run.seconds.len());
    assert_eq!((&json["cold_starts"], &json["peak_replicas"]), (&1.into(), &5.into()));
    let svg = svg::svg(&run);
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(points.split(' ').count(), run.seconds.len() * 2);
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        let _ = Trace::read(&text, Duration::from_secs(1));
    }
}

#[test]
fn a_wake_restores_what_was_there_before_the_workload_slept() {
    // Asleep before the stable window would have removed replicas.
    let model = Model { sleep_after: Duration::from_secs(30), ..model(Some(50)) };
    let text = report("0,400\n1,0\n300,1\n301,0\n", Duration::from_secs(1), &model);
    assert!(text.contains("0:05:00  8\n"), "{text}");
}
