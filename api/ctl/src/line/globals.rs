//! The flags that every command takes.

use super::spec::{Flag, Kind};

/// All of them.
pub static GLOBALS: &[Flag] = &[
    Flag {
        kind: Kind::List,
        ..Flag::text("endpoints", "Where the servers are, separated by commas").or("127.0.0.1:2379")
    },
    Flag::switch("debug", "Tell on standard error what is tried"),
    Flag::text("write-out", "Form of the output: fields, json, protobuf, simple or table")
        .or("simple")
        .letter('w'),
    Flag::switch("hex", "Print bytes as hexadecimal digits"),
    Flag::duration("dial-timeout", "2s", "How long connecting may take"),
    Flag::duration("command-timeout", "5s", "How long a short command may take, connecting not counted"),
    Flag::duration("keepalive-time", "2s", "How long a connection may be silent before it is asked for life"),
    Flag::duration("keepalive-timeout", "6s", "How long the answer to that may take"),
    Flag { kind: Kind::Number, ..Flag::number("max-request-bytes", "Largest request to send; 0 is 2 MiB") },
    Flag { kind: Kind::Number, ..Flag::number("max-recv-bytes", "Largest answer to take; 0 is no limit") },
    Flag::switch("insecure-transport", "Without TLS, where the endpoint does not say https").or("true"),
    Flag::switch("insecure-discovery", "Take found endpoints without TLS too").or("true"),
    Flag::switch("insecure-skip-tls-verify", "Trust any certificate (for tests only)"),
    Flag::text("cert", "Certificate to show to the server"),
    Flag::text("key", "Key of that certificate"),
    Flag::text("cacert", "Authorities that may have signed the server's certificate"),
    Flag::text("auth-jwt-token", "Token to show instead of user and password"),
    Flag::text("user", "User, name[:password]; the password is asked for if missing"),
    Flag::text("password", "Password, where --user has none"),
    Flag::text("discovery-srv", "Domain whose SRV records name the servers (not supported here)").letter('d'),
    Flag::text("discovery-srv-name", "Service name of those records (not supported here)"),
];
