//! Settings of TLS, origins and user authentication.

use crate::config::setting::{Group, Kind, Setting};

const NO_SELF_CLIENT: &str = "nothing in this program is a client of its own client port";
const CLIENT: &str = "client-transport-security";
const PEER: &str = "peer-transport-security";

/// The group "Security".
pub(super) const GROUP: Group = Group {
    title: "Security",
    settings: &[
        Setting::new("cert-file", Kind::Path, "", "Certificate shown to clients (PEM, with its chain).")
            .nested(CLIENT, "cert-file"),
        Setting::new("key-file", Kind::Path, "", "Key of --cert-file (PEM).").nested(CLIENT, "key-file"),
        Setting::new(
            "client-cert-auth",
            Kind::Switch,
            "false",
            "Demand a certificate from every client; its common name is the user name.",
        )
        .nested(CLIENT, "client-cert-auth"),
        Setting::new(
            "client-cert-file",
            Kind::Path,
            "",
            "Certificate used when this member is a client of its own client port; --cert-file without it.",
        )
        .nested(CLIENT, "client-cert-file")
        .inert(NO_SELF_CLIENT),
        Setting::new("client-key-file", Kind::Path, "", "Key of --client-cert-file.")
            .nested(CLIENT, "client-key-file")
            .inert(NO_SELF_CLIENT),
        Setting::new("client-crl-file", Kind::Path, "", "Revoked client certificates."),
        Setting::new(
            "client-cert-allowed-hostname",
            Kind::List,
            "",
            "Accept client certificates only with one of these host names in them.",
        )
        .nested(CLIENT, "allowed-hostname"),
        Setting::new("trusted-ca-file", Kind::Path, "", "CA that signs client certificates.")
            .nested(CLIENT, "trusted-ca-file"),
        Setting::new(
            "auto-tls",
            Kind::Switch,
            "false",
            "Serve clients with a certificate made and signed by itself.",
        )
        .nested(CLIENT, "auto-tls"),
        Setting::new("peer-cert-file", Kind::Path, "", "Certificate shown to other members.")
            .nested(PEER, "cert-file"),
        Setting::new("peer-key-file", Kind::Path, "", "Key of --peer-cert-file.").nested(PEER, "key-file"),
        Setting::new(
            "peer-client-cert-auth",
            Kind::Switch,
            "false",
            "Demand a certificate from other members.",
        )
        .nested(PEER, "client-cert-auth"),
        Setting::new(
            "peer-client-cert-file",
            Kind::Path,
            "",
            "Certificate used when calling other members; --peer-cert-file without it.",
        )
        .nested(PEER, "client-cert-file"),
        Setting::new("peer-client-key-file", Kind::Path, "", "Key of --peer-client-cert-file.")
            .nested(PEER, "client-key-file"),
        Setting::new("peer-trusted-ca-file", Kind::Path, "", "CA that signs the certificates of members.")
            .nested(PEER, "trusted-ca-file"),
        Setting::new(
            "peer-cert-allowed-cn",
            Kind::List,
            "",
            "Accept members only with one of these common names in their certificate.",
        )
        .nested(PEER, "allowed-cn"),
        Setting::new(
            "peer-cert-allowed-hostname",
            Kind::List,
            "",
            "Accept members only with one of these host names in their certificate.",
        )
        .nested(PEER, "allowed-hostname"),
        Setting::new(
            "peer-auto-tls",
            Kind::Switch,
            "false",
            "Talk to members with a certificate made and signed by itself.",
        )
        .nested(PEER, "auto-tls"),
        Setting::new(
            "self-signed-cert-validity",
            Kind::Unsigned,
            "1",
            "Years that such a certificate is valid.",
        ),
        Setting::new("peer-crl-file", Kind::Path, "", "Revoked certificates of members."),
        Setting::new(
            "peer-skip-client-san-verification",
            Kind::Switch,
            "false",
            "Accept a member whose certificate does not name its address.",
        )
        .nested(PEER, "skip-client-san-verification"),
        Setting::new(
            "cipher-suites",
            Kind::List,
            "",
            "TLS 1.2 cipher suites to offer; without it the safe ones.",
        ),
        Setting::new(
            "cors",
            Kind::Origins,
            "*",
            "Web origins that may read answers of the HTTP endpoints; empty or * for all.",
        ),
        Setting::new(
            "host-whitelist",
            Kind::List,
            "*",
            "Host names accepted in plain HTTP requests; empty or * for all.",
        ),
        Setting::new(
            "tls-min-version",
            Kind::Choice(&["", "TLS1.2", "TLS1.3"]),
            "TLS1.2",
            "Oldest TLS version accepted.",
        ),
        Setting::new(
            "tls-max-version",
            Kind::Choice(&["", "TLS1.2", "TLS1.3"]),
            "",
            "Newest TLS version offered.",
        ),
    ],
};

/// The group "Auth".
pub(super) const AUTH: Group = Group {
    title: "Auth",
    settings: &[
        Setting::new(
            "auth-token",
            Kind::Text,
            "simple",
            "Kind of the tokens of logged-in users: 'simple', or 'jwt,sign-method=…,pub-key=…,priv-key=…,ttl=…'.",
        ),
        Setting::new("bcrypt-cost", Kind::Unsigned, "10", "Cost of hashing a password, 4 to 31."),
        Setting::new(
            "auth-token-ttl",
            Kind::Unsigned,
            "300",
            "Seconds that a simple token lives after its last use.",
        ),
    ],
};
