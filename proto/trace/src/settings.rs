//! Where traces go: `--otlp-endpoint`, else the variables that the OpenTelemetry specification gives names to ("OpenTelemetry
//! Protocol Exporter", "Environment Variable Specification"). Pure: variables come in as a function.
//!
//! Headers, timeout and compression (`OTEL_EXPORTER_OTLP_HEADERS`, `…_TIMEOUT`) are read by the exporter itself.

use std::path::PathBuf;

use http::Uri;

/// The one protocol that is spoken.
const PROTOCOL: &str = "grpc";

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoint: String,
    /// Roots (PEM) to trust instead of the system's.
    pub certificate: Option<PathBuf>,
}

/// Why traces cannot be sent as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not an address.
    #[error("{from} is {value:?}: not http://HOST:PORT or https://HOST:PORT")]
    Endpoint {
        /// The flag or variable.
        from: &'static str,
        /// What it says.
        value: String,
    },
    /// Another protocol than gRPC.
    #[error(
        "{from} is {value:?}, and traces are sent with {PROTOCOL} only: use the collector's gRPC port, usually 4317"
    )]
    Protocol {
        /// The variable.
        from: &'static str,
        /// What it says.
        value: String,
    },
}

impl Settings {
    /// What the flag and the variables say; `None` when traces are not wanted.
    ///
    /// # Errors
    /// When they are wanted in a way that is not possible.
    pub fn read(
        flag: Option<&str>,
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsError> {
        // An empty variable is as good as none.
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, variable(name).filter(|value| !value.trim().is_empty())?)))
        };
        let is = |name, wanted: &str| variable(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(wanted));
        let endpoint = match flag {
            Some(flag) => Some(("--otlp-endpoint", flag.to_owned())),
            None if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") => None,
            None => first(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]),
        };
        let Some((from, endpoint)) = endpoint else { return Ok(None) };
        if !is_address(&endpoint) {
            return Err(SettingsError::Endpoint { from, value: endpoint });
        }
        let protocol = first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
        if let Some((from, value)) = protocol.filter(|(_, value)| value.trim() != PROTOCOL) {
            return Err(SettingsError::Protocol { from, value });
        }
        let certificate = first(["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"]);
        Ok(Some(Self { endpoint, certificate: certificate.map(|(_, path)| path.into()) }))
    }

    /// What is sent cannot be read on its way.
    pub fn is_secure(&self) -> bool {
        self.endpoint.starts_with("https://")
    }
}

fn is_address(text: &str) -> bool {
    let host = |uri: &Uri| uri.host().is_some_and(|host| !host.is_empty());
    (text.starts_with("http://") || text.starts_with("https://")) && text.parse().is_ok_and(|uri| host(&uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<Settings>, SettingsError> {
        Settings::read(flag, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn endpoint(flag: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        read(flag, variables).expect("no error").map(|settings| settings.endpoint)
    }

    #[test]
    fn nothing_is_sent_unless_somebody_asks_for_it() {
        assert_eq!(endpoint(None, &[]), None);
        assert_eq!(endpoint(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), None);
        // What would be wrong with it is nobody's business then.
        assert_eq!(endpoint(None, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]), None);
    }

    #[test]
    fn the_flag_counts_more_than_the_variable_for_traces_and_that_more_than_the_one_for_all() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317");
        assert_eq!(endpoint(None, &[all]).as_deref(), Some("http://all:4317"));
        assert_eq!(endpoint(None, &[all, traces]).as_deref(), Some("http://traces:4317"));
        assert_eq!(endpoint(Some("https://flag"), &[all, traces]).as_deref(), Some("https://flag"));
        for off in [("OTEL_SDK_DISABLED", "True"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(endpoint(None, &[all, off]), None);
            assert_eq!(endpoint(Some("http://flag"), &[off]).as_deref(), Some("http://flag"));
        }
    }

    #[test]
    fn what_is_not_possible_is_said_with_its_source() {
        for bad in ["", "collector:4317", "ftp://x", "http://", "http:///v1/traces", "http://a b"] {
            let error = read(Some(bad), &[]).expect_err(bad).to_string();
            assert!(error.starts_with("--otlp-endpoint is"), "{error}");
        }
        let variables =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4318"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")];
        let error = read(None, &variables).expect_err("refused").to_string();
        assert_eq!(
            error,
            "OTEL_EXPORTER_OTLP_PROTOCOL is \"http/json\", and traces are sent with grpc only: use the collector's gRPC port, \
             usually 4317"
        );
        let own = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        assert!(read(None, &[variables[0], variables[1], own]).is_ok());
    }

    #[test]
    fn roots_can_be_named() {
        let certificate = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem");
        let settings = read(Some("https://x"), &[certificate]).expect("no error").expect("on");
        assert_eq!(settings.certificate, Some("/ca.pem".into()));
        assert!(settings.is_secure());
    }
}
