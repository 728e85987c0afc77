//! What kind of program sends a request, as far as its `User-Agent` tells (RFC 9110 section 10.1.5). Clients write what they like
//! there: it is good for explaining who wakes a workload, and for nothing else.

/// A closed set, so that records say no more about a client than they must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserAgentClass {
    Browser,
    /// A search engine, or a service that previews links.
    Crawler,
    /// A probe of a load balancer or of monitoring.
    Monitor,
    /// A command of a person, such as curl.
    CommandLine,
    /// Any other program.
    Program,
    #[default]
    Unnamed,
}

/// Parts of the names of programs, in lower case. The first class with a part that is found applies: crawlers and monitors
/// also claim to be browsers.
const PARTS: [(UserAgentClass, &[&str]); 4] = [
    (
        UserAgentClass::Monitor,
        &[
            "kube-probe",
            "healthcheck",
            "health-check",
            "googlehc",
            "elb-health",
            "uptime",
            "monitor",
            "pingdom",
            "statuscake",
            "blackbox",
            "prometheus",
            "nagios",
            "check_http",
            "zabbix",
            "datadog",
        ],
    ),
    (
        UserAgentClass::Crawler,
        &["bot", "crawler", "spider", "slurp", "facebookexternalhit", "preview", "scrapy", "scan"],
    ),
    (UserAgentClass::CommandLine, &["curl/", "wget/", "httpie/", "postman", "insomnia", "grpcurl"]),
    (UserAgentClass::Browser, &["mozilla/", "opera/"]),
];

// === impl UserAgentClass ===

impl UserAgentClass {
    /// From the value of the field.
    pub fn of(user_agent: Option<&[u8]>) -> Self {
        let Some(value) = user_agent.filter(|value| !value.is_empty()) else {
            return Self::Unnamed;
        };
        let value = value.to_ascii_lowercase();
        let has = |part: &&str| value.windows(part.len()).any(|window| window == part.as_bytes());
        let known = PARTS.iter().find(|(_, parts)| parts.iter().any(has));
        known.map_or(Self::Program, |(class, _)| *class)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Crawler => "crawler",
            Self::Monitor => "monitor",
            Self::CommandLine => "command line",
            Self::Program => "program",
            Self::Unnamed => "unnamed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_follows_what_programs_call_themselves() {
        let cases = [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
                "browser",
            ),
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "crawler"),
            ("Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", "monitor"),
            ("kube-probe/1.37", "monitor"),
            ("curl/8.14.1", "command line"),
            ("python-requests/2.32.5", "program"),
            ("grpc-go/1.85.0", "program"),
            ("", "unnamed"),
        ];
        for (value, expected) in cases {
            assert_eq!(UserAgentClass::of(Some(value.as_bytes())).as_str(), expected, "{value}");
        }
        assert_eq!(UserAgentClass::of(None), UserAgentClass::Unnamed);
    }
}
