//! How the texts of the domain look in JSON Schema (draft 2020-12): names, ids, times, durations, addresses.
//!
//! Owns only the schemas; what parses is with the types themselves. The patterns are as narrow as the parsers.

use std::borrow::Cow;

use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::content::ContentDigest;
use crate::id::{ID_LEN, Id};
use crate::name::{
    ConfigName, MAX_LONG_NAME, MAX_NAME, NetworkName, SecretName, ServiceName, StackName, TokenName, VolumeName,
};
use crate::spec::{Constraint, Ratio};
use crate::time::Timestamp;

/// A duration as text ([`crate::time::duration`]).
#[derive(Debug)]
pub enum DurationText {}

/// An IPv4 or IPv6 address.
#[derive(Debug)]
pub enum IpAddress {}

/// A network with its prefix length.
#[derive(Debug)]
pub enum Subnet {}

/// Bytes in base64 (RFC 4648 section 4, with padding).
#[derive(Debug)]
pub enum Base64 {}

/// Four numbers without leading zeros, or something of IPv6, and what the prefix may be of each.
const SUBNET: &str = concat!(
    r"^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])",
    r"/(3[0-2]|[12]?[0-9])$",
    r"|^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])$",
);

/// As narrow as the parser of constraints, but for tabs and the like around its parts.
const CONSTRAINT: &str = concat!(
    r"^ *[A-Za-z_][A-Za-z0-9_./-]* *(==|!=) *",
    r"[A-Za-z0-9:_.*()?+\[\]\\^$|/-][A-Za-z0-9 :_.*()?+\[\]\\^$|/-]*$",
);

fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description))
}

macro_rules! schemas {
    ($($type:ty = $name:expr => $schema:expr;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let object: Object = $schema.build();
                RefOr::T(Schema::Object(object))
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    )*};
}

schemas! {
    DurationText = "Duration" => text("Units: h, m, s, ms, us, ns; several may follow each other.")
        .pattern(Some(r"^(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns))+)$"))
        .examples(["10s", "1m30s", "500ms"]);
    Subnet = "Subnet" => text("A network with its prefix length.")
        .pattern(Some(SUBNET))
        .max_length(Some(64))
        .examples(["10.0.9.0/24"]);
    Base64 = "Base64" => text("Bytes in base64, with padding.")
        .pattern(Some("^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Byte)));
    Timestamp = "Timestamp" => text("A time, RFC 3339, in UTC.")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .examples(["2026-01-02T03:04:05.678Z"]);
    ContentDigest = "ContentDigest" => text("Names one content of a config or secret.").pattern(Some("^[0-9a-fA-F]{64}$"));
    Constraint = "Constraint" => text("`attribute==value` or `attribute!=value`; letter case does not count.")
        .pattern(Some(CONSTRAINT))
        .examples(["node.labels.zone==a", "node.role!=manager"]);
    Ratio = "Ratio" => ObjectBuilder::new()
        .schema_type(Type::Number)
        .description(Some("A share."))
        .minimum(Some(0.0))
        .maximum(Some(1.0));
}

impl PartialSchema for IpAddress {
    fn schema() -> RefOr<Schema> {
        let of = |format: KnownFormat| {
            let object = ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)));
            RefOr::T(Schema::Object(object.build()))
        };
        let either = AnyOfBuilder::new().item(of(KnownFormat::Ipv4)).item(of(KnownFormat::Ipv6));
        RefOr::T(Schema::AnyOf(either.description(Some("An IPv4 or IPv6 address.")).build()))
    }
}

impl ToSchema for IpAddress {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("IpAddress")
    }
}

impl<K> PartialSchema for Id<K> {
    fn schema() -> RefOr<Schema> {
        let object = text("An id.").pattern(Some(format!("^[0-9a-z]{{{ID_LEN}}}$"))).build();
        RefOr::T(Schema::Object(object))
    }
}

impl<K> ToSchema for Id<K> {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Id")
    }
}

macro_rules! names {
    ($($type:ident, $limit:expr;)*) => { schemas! {$(
        $type = stringify!($type) => text("A name: letters, digits, `_`, `.` and `-`, beginning with a letter or digit.")
            .pattern(Some("^[A-Za-z0-9][A-Za-z0-9_.-]*$"))
            .min_length(Some(1))
            .max_length(Some($limit));
    )*} };
}

names! {
    ServiceName, MAX_NAME;
    StackName, MAX_NAME;
    TokenName, MAX_NAME;
    NetworkName, MAX_LONG_NAME;
    VolumeName, MAX_LONG_NAME;
    ConfigName, MAX_LONG_NAME;
    SecretName, MAX_LONG_NAME;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_an_id_has_its_length() {
        let json = serde_json::to_value(crate::id::TaskId::schema()).expect("a schema is JSON");
        assert_eq!(json["pattern"], "^[0-9a-z]{25}$");
        assert_eq!(serde_json::to_value(ServiceName::schema()).expect("a schema is JSON")["maxLength"], 63);
    }
}
