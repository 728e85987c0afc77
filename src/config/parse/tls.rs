//! Parses what the file says about TLS: the `[[tls]]` tables, and the keys that belong together.

use toml::de::{DeTable, DeValue};

use super::section::{Layers, Section};
use super::value;
use crate::config::keys::TableScope;
use crate::config::report::Problem;
use crate::config::tls::{
    CertificatePaths, ClientCertificates, ClientTls, EndpointTls, EndpointTrust,
};

/// How clients are served over TLS.
pub(super) fn client_tls(
    text: &str,
    document: &DeTable<'_>,
    layers: &Layers<'_>,
    problems: &mut Vec<Problem>,
) -> Option<ClientTls> {
    let certificates = certificates(text, document, layers.defaults, problems)?;
    let tls = ClientTls {
        client_certificates: layers
            .file("client_ca")
            .zip(layers.text("client_certificate"))
            .map(|(ca, presence)| ClientCertificates { ca, is_required: presence == "required" }),
        ticket_key: layers.file("ticket_key"),
        certificates,
    };
    if tls.certificates.is_empty() {
        problems.extend(["client_ca", "ticket_key"].iter().filter_map(|key| {
            let span = layers.span_of(key)?;
            Some(Problem {
                span,
                message: format!(
                    "`{key}` is for clients that connect over TLS, and there is no [[tls]]"
                ),
                help: "write [[tls]] with `certificate` and `key`, or remove it".to_owned(),
                related: None,
            })
        }));
    }
    Some(tls)
}

fn certificates(
    text: &str,
    document: &DeTable<'_>,
    defaults: &Section,
    problems: &mut Vec<Problem>,
) -> Option<Vec<CertificatePaths>> {
    let Some(written) = document.get("tls") else { return Some(Vec::new()) };
    let DeValue::Array(elements) = written.get_ref() else {
        problems.push(not_an_array(written.get_ref(), written.span()));
        return None;
    };
    let mut certificates = Vec::new();
    for element in elements.iter() {
        let DeValue::Table(table) = element.get_ref() else {
            problems.push(not_an_array(element.get_ref(), element.span()));
            return None;
        };
        let own = Section::read(text, table, element.span(), TableScope::Tls, problems);
        own.report_missing_keys(TableScope::Tls, problems);
        let layers = Layers { own: &own, outer: None, defaults };
        let paths = layers.file("certificate").zip(layers.file("key"));
        certificates.push(paths.map(|(certificate, key)| CertificatePaths { certificate, key }));
    }
    certificates.into_iter().collect()
}

fn not_an_array(found: &DeValue<'_>, span: std::ops::Range<usize>) -> Problem {
    let message = format!("`tls` must be an array of tables, not {}", value::type_of(found));
    let help = "write [[tls]], with two brackets, and below it `certificate` and `key`".to_owned();
    Problem { span, message, help, related: None }
}

/// How endpoints of a service are reached over TLS.
pub(super) fn endpoint_tls(
    layers: &Layers<'_>,
    problems: &mut Vec<Problem>,
) -> Option<EndpointTls> {
    let (certificate, key) = (layers.file("tls_certificate"), layers.file("tls_key"));
    let pair = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Box::new(CertificatePaths { certificate, key })),
        (None, None) => None,
        (Some(alone), None) => {
            return incomplete(alone.span, "tls_certificate", "tls_key", problems);
        }
        (None, Some(alone)) => {
            return incomplete(alone.span, "tls_key", "tls_certificate", problems);
        }
    };
    let trust = EndpointTrust {
        ca: layers.file("tls_ca").map(Box::new),
        certificate: pair,
        insecure: layers.boolean("tls_insecure")?,
    };
    Some(EndpointTls { server_name: layers.text("tls_server_name"), trust })
}

fn incomplete<T>(
    span: std::ops::Range<usize>,
    present: &str,
    absent: &str,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    problems.push(Problem {
        span,
        message: format!("`{present}` is set without `{absent}`"),
        help: format!("write `{absent}`, or remove `{present}`"),
        related: None,
    });
    None
}

#[cfg(test)]
mod tests {
    use crate::config::parse::parse;
    use crate::config::report::one_line;

    const SERVICE: &str = "[[services]]\nhost = 'a'\ntype = 'deploy'\nnamespace = 'n'\nname = 'w'\nservice_name = 's'\nservice_port = 443\n";

    #[test]
    fn certificates_and_what_applications_must_prove_are_read() {
        let config = parse(&format!(
            "client_ca = 'ca'\ntls_ca = 'up'\n{SERVICE}{SERVICE}path_prefix = '/b'\ntls_server_name = 'X.y'\n\
             tls_insecure = true\nredirect_to_https = 8443\n[[tls]]\ncertificate = 'one.crt'\nkey = 'one.key'\n\
             [[tls]]\ncertificate = 'two.crt'\nkey = 'two.key'\n"
        ));
        let config = config.unwrap();
        let paths: Vec<_> =
            config.tls.certificates.iter().map(|one| one.key.path.to_str()).collect();
        assert_eq!(paths, [Some("one.key"), Some("two.key")]);
        assert!(config.tls.client_certificates.unwrap().is_required);
        let [one, other] = &config.services[..] else { panic!() };
        assert_eq!((one.server_name(), other.server_name()), ("s.n.svc".into(), "x.y".into()));
        assert!(one.tls.trust.ca.is_some() && !one.tls.trust.insecure && other.tls.trust.insecure);
        assert_eq!((one.redirect_to_https, other.redirect_to_https), (None, Some(8443)));
    }

    #[test]
    fn mistakes_name_their_place_and_what_to_write() {
        for (text, part) in [
            (
                format!("client_ca = 'x'\n{SERVICE}"),
                ":1:13: `client_ca` is for clients that connect over TLS",
            ),
            (
                format!("{SERVICE}tls_key = 'x'\n"),
                ":8:11: `tls_key` is set without `tls_certificate`",
            ),
            (
                format!("{SERVICE}tls_server_name = '*.x'\n"),
                ":8:19: `tls_server_name`: \"*.x\" is a wildcard",
            ),
            (
                format!("{SERVICE}[[tls]]\nkey = 'x'\n"),
                ":8:1: this certificate has no `certificate`",
            ),
            (
                format!("{SERVICE}[tls]\nkey = 'x'\n"),
                ":8:1: `tls` must be an array of tables, not a table; write [[tls]]",
            ),
            (
                "[[services]]\nhost = 'a'\ntype = 'process'\ncommand = ['x']\nprotocol = 'h2'\nreadiness = '/x'\n".to_owned(),
                ":6:13: the readiness check GET /x is without TLS, and the application speaks TLS; write readiness",
            ),
            (
                format!("certificate = 'x'\n{SERVICE}"),
                ":1:1: unknown key `certificate`; `certificate` belongs to a certificate: write it below a [[tls]] line",
            ),
        ] {
            let problems = parse(&text).expect_err("a problem");
            let found: Vec<_> =
                problems.iter().map(|problem| one_line("", &text, problem)).collect();
            assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
        }
    }
}
