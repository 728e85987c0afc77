//! Reads a trace of arrivals: CSV, or the answer of Prometheus to a range query.

use std::time::Duration;

use serde::Deserialize;

/// Arrivals second by second, from the first one on.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub arrivals: Vec<f64>,
    /// How long a request takes.
    pub duration: Duration,
}

/// Why a trace cannot be used: the line where there is one, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TraceError(String);

/// A trace is at most so long: 31 days.
const MOST_SECONDS: u64 = 31 * 24 * 3600;

#[derive(Deserialize)]
struct RangeAnswer {
    status: String,
    data: RangeData,
}

#[derive(Deserialize)]
struct RangeData {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    values: Vec<(f64, String)>,
}

// === impl Trace ===

impl Trace {
    /// Reads CSV with the columns `seconds,requests`, or the JSON of `/api/v1/query_range` for a rate of requests per second,
    /// whose series are added up.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn read(text: &str, duration: Duration) -> Result<Self, TraceError> {
        let rows = if text.trim_start().starts_with('{') { range(text)? } else { csv(text)? };
        let arrivals = spread(&rows)?;
        Ok(Self { arrivals, duration })
    }
}

/// Each row's requests, spread evenly until the next row; the last row lasts as long as the one before, or a second.
fn spread(rows: &[(u64, f64)]) -> Result<Vec<f64>, TraceError> {
    let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else {
        return Err(TraceError("the trace has no rows: write lines such as 0,12".to_owned()));
    };
    let before_last = rows.len().checked_sub(2).map_or(last.saturating_sub(1), |at| rows[at].0);
    let end = last + (last - before_last).max(1);
    if end - first > MOST_SECONDS {
        return Err(TraceError("the trace is longer than 31 days: cut it".to_owned()));
    }
    let mut arrivals = vec![0.0; (end - first) as usize];
    let ends = rows.iter().skip(1).map(|(at, _)| *at).chain([end]);
    for ((at, requests), until) in rows.iter().zip(ends) {
        let seconds = &mut arrivals[(at - first) as usize..(until - first) as usize];
        let each = requests / seconds.len().max(1) as f64;
        seconds.iter_mut().for_each(|second| *second += each);
    }
    Ok(arrivals)
}

fn csv(text: &str) -> Result<Vec<(u64, f64)>, TraceError> {
    let mut rows: Vec<(u64, f64)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let is_header = number == 0 && line.starts_with(|first: char| first.is_ascii_alphabetic());
        if line.is_empty() || is_header {
            continue;
        }
        let error = |what: &str| TraceError(format!("line {}: {what}", number + 1));
        let (at, requests) = line
            .split_once(',')
            .ok_or_else(|| error("write seconds and requests, such as 0,12"))?;
        let at = at
            .trim()
            .parse()
            .map_err(|_| error("the first column is not a whole number of seconds"))?;
        let requests = requests.trim().parse().ok().filter(|requests: &f64| is_count(*requests));
        let requests =
            requests.ok_or_else(|| error("the second column is not a number of requests"))?;
        if rows.last().is_some_and(|(before, _)| at <= *before) {
            return Err(error("its time is not after that of the line before"));
        }
        rows.push((at, requests));
    }
    Ok(rows)
}

fn range(text: &str) -> Result<Vec<(u64, f64)>, TraceError> {
    let answer: RangeAnswer = serde_json::from_str(text).map_err(|error| {
        TraceError(format!("this is no answer of /api/v1/query_range: {error}"))
    })?;
    if answer.status != "success" || answer.data.result_type != "matrix" {
        let fix = "ask /api/v1/query_range for a rate, such as sum(rate(agimo_requests_total[1m]))";
        return Err(TraceError(format!("the answer is not a matrix; {fix}")));
    }
    let mut rates = std::collections::BTreeMap::<u64, f64>::new();
    for (at, value) in answer.data.result.iter().flat_map(|series| &series.values) {
        let value: f64 = value.parse().unwrap_or(f64::NAN);
        let (Some(at), true) = (is_count(*at).then_some(*at as u64), is_count(value)) else {
            return Err(TraceError("a sample is not a number".to_owned()));
        };
        *rates.entry(at).or_default() += value;
    }
    let times: Vec<u64> = rates.keys().copied().collect();
    let step = times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(1);
    Ok(rates.into_iter().map(|(at, rate)| (at, rate * step as f64)).collect())
}

fn is_count(number: f64) -> bool {
    number.is_finite() && (0.0..=1e15).contains(&number)
}
