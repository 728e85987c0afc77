//! The keys of TLS and of what precedes HTTP on a connection.

use crate::config::keys::{Key, KeyDefault, Place, ValueKind};

pub(super) const CERTIFICATE: Key = Key {
    name: "certificate",
    aliases: &[],
    place: Place::Tls,
    kind: ValueKind::File,
    default: KeyDefault::Required,
    description: "The file with the certificate and those that issued it, in PEM, such as `tls.crt` of a mounted Secret. It serves \
                  the hosts that it is for.",
    example: "certificate = \"/etc/agimo/tls/tls.crt\"",
};

pub(super) const KEY: Key = Key {
    name: "key",
    aliases: &[],
    place: Place::Tls,
    kind: ValueKind::File,
    default: KeyDefault::Required,
    description: "The file with the private key of the certificate, in PEM, such as `tls.key` of a mounted Secret.",
    example: "key = \"/etc/agimo/tls/tls.key\"",
};

pub(super) const CLIENT_CA: Key = Key {
    name: "client_ca",
    aliases: &[],
    place: Place::Top,
    kind: ValueKind::File,
    default: KeyDefault::Described("clients are not asked for a certificate"),
    description: "The file with the authorities that issue certificates of clients, in PEM. agimo asks clients that connect over TLS for a \
                  certificate, verifies it, and passes its subject and its names on in `X-Forwarded-Client-Cert`.",
    example: "client_ca = \"/etc/agimo/client-ca.crt\"",
};

pub(super) const CLIENT_CERTIFICATE: Key = Key {
    name: "client_certificate",
    aliases: &[],
    place: Place::Top,
    kind: ValueKind::OneOf(&["required", "optional"]),
    default: KeyDefault::Value("\"required\""),
    description: "Whether a client without a certificate is served, where `client_ca` is set. It applies to connections over TLS; \
                  those in cleartext have no certificate.",
    example: "client_certificate = \"optional\"",
};

pub(super) const TICKET_KEY: Key = Key {
    name: "ticket_key",
    aliases: &[],
    place: Place::Top,
    kind: ValueKind::File,
    default: KeyDefault::Described(
        "each replica of agimo has a key of its own, and a client resumes a session only at the replica that it knows",
    ),
    description: "A file with a secret of at least 32 bytes, the same at all replicas of agimo. The keys of session tickets, which \
                  change every few hours, are derived from it, so that a client can resume its TLS session at any replica.",
    example: "ticket_key = \"/etc/agimo/ticket.key\"",
};

pub(super) const PROXY_PROTOCOL: Key = Key {
    name: "proxy_protocol",
    aliases: &[],
    place: Place::Top,
    kind: ValueKind::Networks,
    default: KeyDefault::Value("[]"),
    description: "The addresses of load balancers that begin each connection with a header of the PROXY protocol, version 1 or 2. The \
                  client is then the one that the header names. A connection from these addresses without such a header is \
                  closed.",
    example: "proxy_protocol = [\"10.0.0.0/8\"]",
};

pub(super) const REDIRECT_TO_HTTPS: Key = Key {
    name: "redirect_to_https",
    aliases: &[],
    place: Place::TopAndServices,
    kind: ValueKind::Count { most: 65535 },
    default: KeyDefault::Value("\"off\""),
    description: "Redirects requests in cleartext to HTTPS with 308. The number is the port that clients use for HTTPS. Requests from \
                  `trusted_proxies` that say `X-Forwarded-Proto: https` are not redirected, nor those to a name of the \
                  Service in the cluster (`cluster_names`).",
    example: "redirect_to_https = 443",
};

pub(super) const SERVER_NAME: Key = Key {
    name: "tls_server_name",
    aliases: &[],
    place: Place::TopAndServices,
    kind: ValueKind::ServerName,
    default: KeyDefault::Described(
        "the name of the Service in the cluster, `SERVICE.NAMESPACE.svc`; `localhost` for local processes",
    ),
    description: "The host that the certificate of the application must be for, where `protocol` is `https` or `h2`. agimo sends it to \
                  the application (SNI).",
    example: "tls_server_name = \"shop.internal\"",
};

pub(super) const CA: Key = Key {
    name: "tls_ca",
    aliases: &[],
    place: Place::TopAndServices,
    kind: ValueKind::File,
    default: KeyDefault::Described("the authorities that the system trusts"),
    description: "The file with the authorities that issue certificates of applications, in PEM.",
    example: "tls_ca = \"/etc/agimo/ca.crt\"",
};

pub(super) const UPSTREAM_CERTIFICATE: Key = Key {
    name: "tls_certificate",
    aliases: &[],
    place: Place::TopAndServices,
    kind: ValueKind::File,
    default: KeyDefault::Described("agimo presents no certificate"),
    description: "The file with the certificate that agimo presents to the application, in PEM. It needs `tls_key`.",
    example: "tls_certificate = \"/etc/agimo/client/tls.crt\"",
};

pub(super) const UPSTREAM_KEY: Key = Key {
    name: "tls_key",
    aliases: &[],
    place: Place::TopAndServices,
    kind: ValueKind::File,
    default: KeyDefault::Described("agimo presents no certificate"),
    description: "The file with the private key of `tls_certificate`, in PEM.",
    example: "tls_key = \"/etc/agimo/client/tls.key\"",
};

pub(super) const INSECURE: Key = Key {
    name: "tls_insecure",
    aliases: &[],
    place: Place::TopAndServices,
    kind: ValueKind::Boolean,
    default: KeyDefault::Value("false"),
    description: "Accepts any certificate of the application, so that whoever can intercept the connection can read and change what is sent. \
                  The log warns about it. `tls_ca` and `tls_server_name` then have no effect on what is accepted.",
    example: "tls_insecure = true",
};
