//! A machine's side of it: joining with a token, renewing a certificate, saying that it is in use.
//!
//! Before anything secret is sent, whoever answers has shown a certificate of a root that the token or the node's own
//! identity names.

use std::error::Error;
use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::pb::certificates_client::CertificatesClient;
use berth_proto::pb::{ConfirmRequest, IssueRequest, IssueResponse, RenewRequest, RootsRequest};
use berth_proto::removal;
use berth_proto::spec::SecretBytes;
use tonic::{Code, Status};

use super::channel;
use super::credentials::Credentials;
use super::node_identity::{Identity, IdentityError};
use super::request::{self, RequestError};
use super::token::JoinToken;

/// Before the managers are asked again when none of them answered; doubles up to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Why a machine has no certificate now.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody to ask.
    #[error("there is no address of a manager to ask")]
    NoAddress,
    /// Nobody answered who could help.
    #[error("no manager could be asked: {}", list(failures))]
    NotReached {
        /// Address and reason, in the order they were asked.
        failures: Vec<(String, String)>,
    },
    /// Whoever answers is not of the cluster that the token is for.
    #[error(
        "{address} is not a manager of the cluster that the join token is for, or the cluster has a new CA since the token \
         was printed: get the token again with `berth cluster token`"
    )]
    AnotherCluster {
        /// The address.
        address: String,
    },
    /// A manager has said no.
    #[error("the manager at {address} refused: {reason}")]
    Refused {
        /// The address.
        address: String,
        /// Its reason.
        reason: String,
    },
    /// The node is not part of the cluster any more.
    #[error("the manager at {address} says that node {node} was removed from the cluster")]
    Removed {
        /// The address.
        address: String,
        /// The node.
        node: NodeId,
    },
    /// This machine cannot make a key or a request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What a manager answered cannot be used.
    #[error("the manager at {address} answered with a certificate that cannot be used")]
    Answer {
        /// The address.
        address: String,
        /// What is wrong with it.
        source: IdentityError,
    },
}

fn list(failures: &[(String, String)]) -> String {
    failures.iter().map(|(address, reason)| format!("{address}: {reason}")).collect::<Vec<_>>().join("; ")
}

/// What a manager answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Who this node is now.
    pub identity: Identity,
    /// Addresses of all managers.
    pub managers: Vec<String>,
}

/// Why one manager did not help.
enum Failure {
    /// Another one may.
    Next(String),
    /// No other one will.
    Final(JoinError),
}

/// Joins the cluster that the token is of, by the first of `addresses` (`HOST:PORT`) that answers.
///
/// # Errors
/// When none answers, or one refuses.
pub async fn join(addresses: &[String], token: &JoinToken) -> Result<Joined, JoinError> {
    let key = request::new_key()?;
    let request = request::request(&key)?;
    let mut failures = Vec::new();
    for address in addresses {
        match join_at(address, token, &key, &request).await {
            Err(Failure::Next(reason)) => failures.push((address.clone(), reason)),
            Err(Failure::Final(error)) => return Err(error),
            Ok(joined) => return Ok(joined),
        }
    }
    Err(nobody(failures))
}

/// [`join`], until a manager answers. Machines that were started together do not come back together: up to half of each wait
/// is left out. What the managers made of a request that is dropped is a node that never came, which `berth node rm` removes.
///
/// # Errors
/// When one refuses.
pub async fn join_once_answered(addresses: &[String], token: &JoinToken) -> Result<Joined, JoinError> {
    let mut longest = WAITS.0;
    loop {
        let error = match join(addresses, token).await {
            Err(error @ JoinError::NotReached { .. }) => error,
            answered => return answered,
        };
        let wait = longest.mul_f64(1.0 - rand::random::<f64>() / 2.0);
        tracing::warn!(error = &error as &dyn Error, "cannot join yet, trying again in {wait:.1?}");
        tokio::time::sleep(wait).await;
        longest = (longest * 2).min(WAITS.1);
    }
}

async fn join_at(address: &str, token: &JoinToken, key: &SecretBytes, request: &[u8]) -> Result<Joined, Failure> {
    let stranger = channel::unverified(address).map_err(Failure::Next)?;
    let answer = CertificatesClient::new(stranger).roots(RootsRequest {}).await;
    let roots = answer.map_err(|status| refused(address, &status))?.into_inner().roots;
    let pinned = roots.into_iter().find(|root| token.pins(root));
    let pinned = pinned.ok_or_else(|| Failure::Final(JoinError::AnotherCluster { address: address.to_owned() }))?;
    // From here on only who has a certificate of the pinned root is talked to.
    let manager = channel::anonymous(address, &[pinned]).map_err(Failure::Next)?;
    let request = IssueRequest { request: request.to_vec().into(), token: token.to_string() };
    let answer = CertificatesClient::new(manager).issue(request).await;
    joined(address, key, answer.map_err(|status| refused(address, &status))?.into_inner())
}

/// A new certificate with a new key for the node, by the first of `addresses` that answers. The certificate that it has
/// may have expired.
///
/// # Errors
/// When none answers, or one refuses.
pub async fn renew(identity: &Identity, addresses: &[String]) -> Result<Joined, JoinError> {
    let key = request::new_key()?;
    let request = request::request(&key)?;
    let proof = request::prove(&identity.key, &request)?;
    let certificate = identity.chain.first().cloned().unwrap_or_default();
    let request = RenewRequest { request: request.into(), certificate, proof: proof.into() };
    let mut failures = Vec::new();
    for address in addresses {
        match renew_at(address, identity, &key, request.clone()).await {
            Err(Failure::Next(reason)) => failures.push((address.clone(), reason)),
            Err(Failure::Final(error)) => return Err(error),
            Ok(joined) => return Ok(joined),
        }
    }
    Err(nobody(failures))
}

async fn renew_at(
    address: &str,
    identity: &Identity,
    key: &SecretBytes,
    request: RenewRequest,
) -> Result<Joined, Failure> {
    let manager = channel::anonymous(address, &identity.roots).map_err(Failure::Next)?;
    let answer = CertificatesClient::new(manager).renew(request).await;
    joined(address, key, answer.map_err(|status| refused(address, &status))?.into_inner())
}

/// Tells the managers which certificate this node uses, over a new connection that is made with it.
///
/// # Errors
/// When none answers, or one refuses.
pub async fn confirm(credentials: &Credentials, addresses: &[String]) -> Result<(), JoinError> {
    let mut failures = Vec::new();
    for address in addresses {
        let status = match credentials.channel_to_manager(address) {
            Ok(manager) => match CertificatesClient::new(manager).confirm(ConfirmRequest {}).await {
                Ok(_) => return Ok(()),
                Err(status) => status,
            },
            Err(reason) => Status::unavailable(reason),
        };
        match refused(address, &status) {
            Failure::Next(reason) => failures.push((address.clone(), reason)),
            Failure::Final(error) => return Err(error),
        }
    }
    Err(nobody(failures))
}

fn nobody(failures: Vec<(String, String)>) -> JoinError {
    if failures.is_empty() { JoinError::NoAddress } else { JoinError::NotReached { failures } }
}

fn joined(address: &str, key: &SecretBytes, answer: IssueResponse) -> Result<Joined, Failure> {
    let identity = Identity::new(key.clone(), answer.chain, answer.roots);
    let refuse = |source| Failure::Final(JoinError::Answer { address: address.to_owned(), source });
    Ok(Joined { identity: identity.map_err(refuse)?, managers: answer.managers })
}

fn refused(address: &str, status: &Status) -> Failure {
    if let Some(node) = removal::of(status) {
        return Failure::Final(JoinError::Removed { address: address.to_owned(), node });
    }
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument | Code::ResourceExhausted => {
            Failure::Final(JoinError::Refused { address: address.to_owned(), reason: status.message().to_owned() })
        }
        _ => Failure::Next(reason(status)),
    }
}

/// The innermost reason: `transport error` alone helps nobody.
fn reason(status: &Status) -> String {
    let innermost = std::iter::successors(status.source(), |error| (*error).source()).last();
    innermost.map_or_else(|| status.message().to_owned(), ToString::to_string)
}
