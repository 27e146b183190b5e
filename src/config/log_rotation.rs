//! Reads `--log-rotation-config-json`.
//!
//! Called by: `config::resolve`, when rotation is on. Source: etcd server/embed/config_logging.go; the keys are those
//! of the Go package lumberjack.

use std::time::Duration;

use serde_json::Value;

use super::error::ConfigError;

/// When to begin a new log file, and which old ones to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRotation {
    /// A file does not grow beyond this many bytes.
    pub bytes_max: u64,
    /// Old files to keep; `None` for all.
    pub backups_max: Option<usize>,
    /// Age at which an old file goes; `None` for never.
    pub age_max: Option<Duration>,
}

/// The limits, and remarks about what is not done.
///
/// # Errors
/// A text that is not such an object, or outputs that are not one file.
pub fn parse(text: &str, outputs: &[String]) -> Result<(LogRotation, Vec<String>), ConfigError> {
    let is_stream =
        |output: &String| matches!(output.as_str(), "default" | "stderr" | "stdout" | "systemd/journal");
    if outputs.len() != 1 || outputs.iter().any(is_stream) {
        return Err(ConfigError::contradiction(
            "--enable-log-rotation needs --log-outputs to be one file",
            "give --log-outputs the path of a file",
        ));
    }
    let refuse = |problem: String| {
        ConfigError::contradiction(
            format!("--log-rotation-config-json: {problem}"),
            r#"write for example {"maxsize": 100, "maxage": 30, "maxbackups": 5}"#,
        )
    };
    let value: Value = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
    let map = value.as_object().ok_or_else(|| refuse("it is not an object".to_owned()))?;
    let mut rotation = LogRotation { bytes_max: 100 << 20, backups_max: None, age_max: None };
    let mut remarks = Vec::new();
    for (key, value) in map {
        let number = || value.as_u64().ok_or_else(|| refuse(format!("{key} is not a whole number from 0")));
        match key.as_str() {
            "maxsize" => {
                // As lumberjack: 0 is 100 megabytes.
                rotation.bytes_max =
                    Some(number()?).filter(|size| *size > 0).unwrap_or(100).saturating_mul(1 << 20);
            }
            "maxbackups" => rotation.backups_max = usize::try_from(number()?).ok().filter(|count| *count > 0),
            "maxage" => {
                rotation.age_max =
                    Some(Duration::from_secs(number()?.saturating_mul(86_400))).filter(|age| !age.is_zero());
            }
            "localtime" | "compress" if value == false => {}
            "localtime" if value == true => {
                remarks.push("--log-rotation-config-json: names of old files are always in UTC".to_owned());
            }
            "compress" if value == true => {
                remarks.push("--log-rotation-config-json: old files are not compressed".to_owned());
            }
            _ => return Err(refuse(format!("{key}: {value} is not known"))),
        }
    }
    Ok((rotation, remarks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let file = ["/var/log/k.log".to_owned()];
        let (rotation, remarks) =
            parse(r#"{"maxsize": 7, "maxage": 2, "maxbackups": 3, "compress": true}"#, &file).unwrap();
        let expected = LogRotation {
            bytes_max: 7 << 20,
            backups_max: Some(3),
            age_max: Some(Duration::from_secs(172_800)),
        };
        assert_eq!((rotation, remarks.len()), (expected, 1));
        let (rotation, _) = parse("{}", &file).unwrap();
        assert_eq!(rotation, LogRotation { bytes_max: 100 << 20, backups_max: None, age_max: None });
    }

    #[test]
    fn faults_are_named() {
        let check = |text: &str, outputs: &[&str], part: &str| {
            let outputs: Vec<String> = outputs.iter().map(|output| (*output).to_owned()).collect();
            let error = parse(text, &outputs).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("{}", &["default"], "one file");
        check("{}", &["/a", "/b"], "one file");
        check("{", &["/a"], "EOF");
        check("[]", &["/a"], "not an object");
        check(r#"{"maxsize": -1}"#, &["/a"], "maxsize");
        check(r#"{"maxweight": 1}"#, &["/a"], "maxweight");
    }
}
