//! `berth token create`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_proto::name::TokenName;
use berth_proto::pb;
use berth_proto::state::ApiRole;
use berth_proto::time::Timestamp;
use bytes::Bytes;
use clap::Args;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::value::{parse_duration, parse_word};
use crate::ui::{Failure, OrFail, Outcome, terminal};

/// Flags of `token create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of who uses it; what is done with it is recorded under this name
    #[arg(value_name = "NAME")]
    name: TokenName,
    /// viewer (looks), operator (runs services, takes nodes in and out of service) or admin (everything)
    #[arg(long, value_name = "ROLE", value_parser = parse_word::<ApiRole>)]
    role: ApiRole,
    /// It is refused after this time, e.g. 24h [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expires: Option<Duration>,
    /// Takes a client's certificate (PEM) in place of a token: whoever shows it over TLS, and has its key, needs no other
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
}

/// Prints the token alone, for scripts; what to know of it goes to stderr. Prints nothing for a certificate.
pub async fn run(args: CreateArgs, context: &Context) -> Outcome {
    let certificate = args.certificate.as_deref().map(read_certificate).transpose()?.unwrap_or_default();
    let client = context.connect().await?;
    let request = pb::TokenCreateRequest {
        name: args.name.to_string(),
        role: pb::ApiRole::from(args.role).into(),
        lifetime: args.expires.map(|lifetime| u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX)),
        certificate,
    };
    let answer = client.control().token_create(request).await;
    let made = answer.map_err(|status| refused(&format!("cannot make token {}", args.name), &status))?.into_inner();
    if made.text.is_empty() {
        let until = made.token.and_then(|token| token.expires_at).map(|at| format!(" until {}", Timestamp(at)));
        terminal::say(format!("the certificate is token {}{}", args.name, until.unwrap_or_default()));
        return Ok(0);
    }
    terminal::say("keep it: it cannot be shown again");
    terminal::print_line(&made.text)?;
    Ok(0)
}

/// The first certificate of a PEM file (RFC 7468): a client's own comes first where others follow.
fn read_certificate(path: &Path) -> Result<Bytes, Failure> {
    let text = std::fs::read(path).or_fail(|| format!("cannot read {}", path.display()))?;
    let first = CertificateDer::pem_slice_iter(&text).next().and_then(Result::ok);
    let first = first.ok_or_else(|| {
        Failure::new(format!("{} holds no certificate in PEM", path.display()))
            .hint("openssl x509 -inform der -in FILE makes PEM of a certificate in DER")
    })?;
    Ok(Bytes::from(first.to_vec()))
}
