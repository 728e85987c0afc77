//! The query of a request to `/api/v1`.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::StatusCode;

use super::response::Refusal;
use crate::catalog::{Route, Snapshot};
use crate::routing::host_and_path;

/// Names and values; every name is one that the path knows.
#[derive(Debug, Default)]
pub struct Parameters(Vec<(String, String)>);

/// Records in an answer, where the query does not say how many.
const USUAL_LIMIT: usize = 100;
const LARGEST_LIMIT: usize = 10_000;

pub fn no_service(wanted: &str) -> Refusal {
    let error = format!("no service of the configuration has the host `{wanted}`");
    (StatusCode::NOT_FOUND, error)
}

// === impl Parameters ===

impl Parameters {
    /// # Errors
    /// When the query has another name than those that are allowed.
    pub fn read(query: &str, allowed: &[&str]) -> Result<Self, Refusal> {
        let parse = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
            if allowed.contains(&&*name) {
                return Ok((name.into_owned(), value.into_owned()));
            }
            let known = match allowed {
                [] => "nothing is asked for here".to_owned(),
                names => format!("write {}", names.join(" or ")),
            };
            let error = format!("`{name}` is no parameter of this path; {known}");
            Err((StatusCode::BAD_REQUEST, error))
        };
        form_urlencoded::parse(query.as_bytes()).map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// The last value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The routes of the host and path that are asked for, or all.
    ///
    /// # Errors
    /// When there is none.
    pub fn routes(&self, snapshot: &Snapshot) -> Result<Vec<Arc<Route>>, Refusal> {
        let Some(wanted) = self.get("host") else { return Ok(snapshot.routes.clone()) };
        let (host, path) = host_and_path(wanted);
        // Without a path, every service of the host.
        let of_host = |route: &&Arc<Route>| {
            !wanted.contains('/') && route.config.host.eq_ignore_ascii_case(host)
        };
        let mut routes: Vec<_> = snapshot.routes.iter().filter(of_host).cloned().collect();
        if routes.is_empty() {
            routes.extend(snapshot.table.find(host.as_bytes(), path.as_bytes()).cloned());
        }
        if routes.is_empty() {
            return Err(no_service(wanted));
        }
        Ok(routes)
    }

    /// The only workload of those routes, as one of them.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn workload(&self, snapshot: &Snapshot) -> Result<Arc<Route>, Refusal> {
        if self.get("host").is_none() {
            let error = "write which service, such as ?host=shop.example".to_owned();
            return Err((StatusCode::BAD_REQUEST, error));
        }
        let routes = self.routes(snapshot)?;
        // There is at least one.
        let first = routes[0].clone();
        let is_other = |route: &&Arc<Route>| !Arc::ptr_eq(&route.workload, &first.workload);
        match routes.iter().find(is_other) {
            None => Ok(first),
            Some(other) => {
                let example = format!("{}{}", first.config.host, first.config.path_prefix);
                let error = format!(
                    "several workloads are meant, {} and {}: write the path of one service, such as {example}",
                    first.workload.id, other.workload.id,
                );
                Err((StatusCode::BAD_REQUEST, error))
            }
        }
    }

    /// # Errors
    /// When `limit` is no number from 1 to 10,000.
    pub fn limit(&self) -> Result<usize, Refusal> {
        let Some(text) = self.get("limit") else { return Ok(USUAL_LIMIT) };
        text.parse().ok().filter(|limit| (1..=LARGEST_LIMIT).contains(limit)).ok_or_else(|| {
            let error = format!("`limit` is a number from 1 to {LARGEST_LIMIT}, not `{text}`");
            (StatusCode::BAD_REQUEST, error)
        })
    }
}
