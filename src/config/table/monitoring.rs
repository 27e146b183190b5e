//! Settings of what the operator sees: metrics, logs, traces.

use crate::config::setting::{Group, Kind, Setting};

/// The group "Profiling and monitoring".
pub(super) const GROUP: Group = Group {
    title: "Profiling and monitoring",
    settings: &[
        Setting::new("enable-pprof", Kind::Switch, "false", "Serve Go profiles under /debug/pprof.")
            .inert("there is no Go runtime to profile; use perf with the shipped symbols"),
        Setting::new(
            "metrics",
            Kind::Choice(&["basic", "extensive"]),
            "basic",
            "'extensive' adds latency histograms per gRPC method.",
        ),
        Setting::new(
            "listen-metrics-urls",
            Kind::Urls,
            "",
            "Extra addresses for /metrics and the health endpoints; https uses the client certificate.",
        ),
    ],
};

/// The group "Logging".
pub(super) const LOGGING: Group = Group {
    title: "Logging",
    settings: &[
        Setting::new("logger", Kind::Choice(&["zap"]), "zap", "Only 'zap', the name of etcd's log format."),
        Setting::new(
            "log-outputs",
            Kind::List,
            "default",
            "Where log lines go: 'default' or 'stderr', 'stdout', or paths of files, comma separated.",
        ),
        Setting::new(
            "log-level",
            Kind::Choice(&["debug", "info", "warn", "error", "panic", "fatal"]),
            "info",
            "Least important lines to write.",
        ),
        Setting::new(
            "log-format",
            Kind::Choice(&["json", "console"]),
            "json",
            "'json' for machines, 'console' for people. On a terminal keelson store starts with 'console'.",
        ),
        Setting::new(
            "enable-log-rotation",
            Kind::Switch,
            "false",
            "Rotate the log by size; --log-outputs must then be one file.",
        ),
        Setting::new(
            "log-rotation-config-json",
            Kind::Text,
            r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
            "Limits of the log rotation: megabytes of a file, days and number of old files to keep (0 for all).",
        ),
        Setting::new(
            "warning-unary-request-duration",
            Kind::Duration,
            "300ms",
            "Log a request that takes longer.",
        ),
    ],
};

/// The group "Distributed tracing".
pub(super) const TRACING: Group = Group {
    title: "Distributed tracing",
    settings: &[
        Setting::new("enable-distributed-tracing", Kind::Switch, "false", "Export OpenTelemetry traces."),
        Setting::new(
            "distributed-tracing-address",
            Kind::Text,
            "localhost:4317",
            "Address of the trace collector.",
        ),
        Setting::new("distributed-tracing-service-name", Kind::Text, "etcd", "Service name in traces."),
        Setting::new("distributed-tracing-instance-id", Kind::Text, "", "Instance name in traces."),
        Setting::new("distributed-tracing-sampling-rate", Kind::Signed, "0", "Traces kept per million."),
    ],
};
