//! Why a call is refused. Each refusal becomes a gRPC status whose details are a `berth.v1.Refusal`.

use berth_proto::convert::ConvertError;
use berth_proto::object::ObjectKind;
use berth_proto::pb;
use berth_proto::time::Timestamp;
use berth_proto::validate::Invalid;
use prost::Message;
use tonic::{Code, Status};

use crate::allocator::endpoint::EndpointError;
use crate::allocator::network::Overlap;
use crate::raft::ProposeError;
use crate::store::Conflict;

/// Why a call is refused; nothing of it was done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// The message lacks a part.
    #[error("the request has no {0}")]
    Lacks(&'static str),
    /// The message is not well formed.
    #[error("{0}")]
    Malformed(#[from] ConvertError),
    /// The spec breaks rules.
    #[error("{}", rules(what, invalid))]
    Invalid {
        /// Whose spec, e.g. `service web`.
        what: String,
        /// The rules.
        invalid: Invalid,
    },
    /// Nothing of that name or id.
    #[error("no such {kind}: {word}")]
    NotFound {
        /// Kind.
        kind: ObjectKind,
        /// The word.
        word: String,
    },
    /// The beginning of an id fits several.
    #[error("{kind} {word:?} is ambiguous: it could be {}", matches.join(", "))]
    Ambiguous {
        /// Kind.
        kind: ObjectKind,
        /// The word.
        word: String,
        /// What it could be: ids with names.
        matches: Vec<String>,
    },
    /// Somebody else wrote it since the caller read it.
    #[error("{what} was changed by somebody else")]
    Stale {
        /// The object.
        what: String,
    },
    /// The name is taken.
    #[error("a {kind} named {name} exists already")]
    Taken {
        /// Kind.
        kind: ObjectKind,
        /// The name.
        name: String,
    },
    /// Names of a stack that others have.
    #[error("{}", taken_by_others(conflicts))]
    TakenByOthers {
        /// Kind, name and owner as text.
        conflicts: Vec<String>,
    },
    /// Its removal was asked for before.
    #[error("service {name} is still being removed")]
    BeingRemoved {
        /// The service.
        name: String,
    },
    /// A mode is for life.
    #[error("service {name} is {from} and cannot become {to}")]
    ModeChange {
        /// The service.
        name: String,
        /// Mode that it has.
        from: &'static str,
        /// Mode that was asked for.
        to: &'static str,
    },
    /// A name is for life.
    #[error("service {name} cannot be renamed to {to}")]
    NameChange {
        /// The service.
        name: String,
        /// Name that was asked for.
        to: String,
    },
    /// Only replicated services and jobs have a number of tasks.
    #[error("service {name} is {mode}: it has no number of tasks to set")]
    NotScalable {
        /// The service.
        name: String,
        /// Its mode.
        mode: &'static str,
    },
    /// Its load moves the number, within bounds.
    #[error("service {name} is scaled by its load between {min} and {max} replicas: {replicas} is outside")]
    OutOfBounds {
        /// The service.
        name: String,
        /// Number that was asked for.
        replicas: u64,
        /// Fewest.
        min: u64,
        /// Most.
        max: u64,
    },
    /// It was never updated, or it was rolled back.
    #[error("service {name} has no previous spec to go back to")]
    NoPrevious {
        /// The service.
        name: String,
    },
    /// A field that cannot be changed while the object exists.
    #[error("{kind} {name} exists with other settings ({})", fields.join(", "))]
    Fixed {
        /// Kind.
        kind: ObjectKind,
        /// Name.
        name: String,
        /// The fields.
        fields: Vec<String>,
    },
    /// It is always there.
    #[error("network {name} is built in and cannot be removed")]
    BuiltIn {
        /// The network.
        name: String,
    },
    /// Two networks of the same addresses.
    #[error("network {name}: {overlap}")]
    Overlap {
        /// The new network.
        name: String,
        /// What is in the way.
        overlap: Overlap,
    },
    /// Something uses it.
    #[error("{kind} {name} is in use by {by}")]
    InUse {
        /// Kind.
        kind: ObjectKind,
        /// Name.
        name: String,
        /// Who uses it.
        by: String,
    },
    /// A service refers to what does not exist.
    #[error("{what} refers to {kind} {name}, which does not exist")]
    Missing {
        /// What refers to it.
        what: String,
        /// Kind of what is missing.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// They would wait for each other for ever.
    #[error("services depend on each other in a circle: {}", chain.join(" -> "))]
    Circle {
        /// Names, the first one again as the last.
        chain: Vec<String>,
    },
    /// Another service publishes the port, or no port is left.
    #[error("{0}")]
    Port(#[from] EndpointError),
    /// Only nodes that are down are removed.
    #[error("node {name} is not down")]
    NodeNotDown {
        /// The node.
        name: String,
    },
    /// A manager holds the state.
    #[error("node {name} is a manager")]
    NodeIsManager {
        /// The node.
        name: String,
    },
    /// Only a new token may have a lifetime.
    #[error("a join token that exists already cannot be given a lifetime")]
    TokenLifetime,
    /// The name of a token of the HTTP API.
    #[error("a token named {name} exists already")]
    TokenTaken {
        /// The name.
        name: String,
    },
    /// What is to be a token is none.
    #[error("this is not a certificate (X.509)")]
    NotACertificate,
    /// It is good for nothing any more.
    #[error("the certificate has expired at {at}")]
    CertificateExpired {
        /// When.
        at: Timestamp,
    },
    /// One certificate is one token.
    #[error("the certificate is token {name} already")]
    CertificateTaken {
        /// The token.
        name: String,
    },
    /// So many that nobody knows them all.
    #[error("there are {limit} tokens already, and no more are kept")]
    TooManyTokens {
        /// The limit.
        limit: usize,
    },
    /// No token of the HTTP API has that name.
    #[error("no such token: {name}")]
    NoToken {
        /// The name.
        name: String,
    },
    /// The system gives no random bytes.
    #[error("cannot make a root certificate: {reason}")]
    Sign {
        /// Why.
        reason: String,
    },
    /// Nobody would be left to lead.
    #[error("node {name} is the only manager")]
    LastManager {
        /// The node.
        name: String,
    },
    /// The cluster would be gone.
    #[error("node {name} is the only manager: without it there is no cluster")]
    LastLeaves {
        /// The node.
        name: String,
    },
    /// The others could not decide anything without it.
    #[error("without node {name}, {reachable} of {managers} managers answer, and {needed} are needed")]
    NoQuorum {
        /// The node.
        name: String,
        /// Other managers that answer.
        reachable: usize,
        /// Other managers.
        managers: usize,
        /// A majority of them.
        needed: usize,
    },
    /// Not in this version.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
    /// Nothing of that stack.
    #[error("no such stack: {0}")]
    NoStack(String),
    /// The log did not take it.
    #[error(transparent)]
    Propose(ProposeError),
}

fn rules(what: &str, invalid: &Invalid) -> String {
    match invalid.errors.len() {
        1 => format!("{what} breaks a rule"),
        several => format!("{what} breaks {several} rules"),
    }
}

fn taken_by_others(conflicts: &[String]) -> String {
    format!("names are taken: {}", conflicts.join(", "))
}

impl From<ProposeError> for Refused {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Conflict(conflict) => conflict.into(),
            other => Self::Propose(other),
        }
    }
}

impl From<Conflict> for Refused {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::NameTaken { name, holder } => Self::Taken { kind: holder.kind(), name },
            Conflict::InUse { object, name, by_kind, user, count } => {
                let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
                Self::InUse { kind: object.kind(), name, by: format!("{by_kind} {user}{others}") }
            }
            Conflict::Missing { object, kind, name } => Self::Missing { what: object.to_string(), kind, name },
            Conflict::Version { object, .. } | Conflict::Gone { object, .. } | Conflict::Behind { object, .. } => {
                Self::Stale { what: object.to_string() }
            }
            other => Self::Propose(ProposeError::Conflict(other)),
        }
    }
}

impl Refused {
    fn code(&self) -> Code {
        match self {
            Self::Lacks(_)
            | Self::Malformed(_)
            | Self::Invalid { .. }
            | Self::Ambiguous { .. }
            | Self::TokenLifetime
            | Self::NotACertificate
            | Self::CertificateExpired { .. }
            | Self::Circle { .. } => Code::InvalidArgument,
            Self::Sign { .. } => Code::Internal,
            Self::NotFound { .. } | Self::NoStack(_) | Self::NoToken { .. } => Code::NotFound,
            Self::Stale { .. } => Code::Aborted,
            Self::Taken { .. }
            | Self::TakenByOthers { .. }
            | Self::TokenTaken { .. }
            | Self::CertificateTaken { .. } => Code::AlreadyExists,
            Self::TooManyTokens { .. } => Code::ResourceExhausted,
            Self::Unsupported(_) => Code::Unimplemented,
            Self::BeingRemoved { .. }
            | Self::ModeChange { .. }
            | Self::NameChange { .. }
            | Self::NotScalable { .. }
            | Self::OutOfBounds { .. }
            | Self::NoPrevious { .. }
            | Self::Fixed { .. }
            | Self::BuiltIn { .. }
            | Self::Overlap { .. }
            | Self::InUse { .. }
            | Self::Missing { .. }
            | Self::Port(_)
            | Self::NodeNotDown { .. }
            | Self::NodeIsManager { .. }
            | Self::LastManager { .. }
            | Self::LastLeaves { .. }
            | Self::NoQuorum { .. } => Code::FailedPrecondition,
            Self::Propose(error) => match error {
                ProposeError::Conflict(_) => Code::Aborted,
                ProposeError::NotLeader { .. } | ProposeError::Stopped | ProposeError::Lost => Code::Unavailable,
                ProposeError::TooLarge { .. } => Code::OutOfRange,
            },
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Stale { .. } => "look at it again and repeat the change".to_owned(),
            Self::BeingRemoved { .. } => "its tasks are being stopped; try again when they are gone".to_owned(),
            Self::OutOfBounds { .. } => "ask for a number between them, or change x-berth.autoscale".to_owned(),
            Self::ModeChange { name, .. } => format!("remove {name} and create it anew"),
            Self::TakenByOthers { .. } => "choose another stack name, or remove what has the names".to_owned(),
            Self::Fixed { kind, .. } => format!("remove the {kind} first, or give the new one another name"),
            Self::Overlap { .. } => "ask for another subnet, or leave it out: then a free one is found".to_owned(),
            Self::InUse { .. } => "remove or change what uses it first".to_owned(),
            Self::Port(EndpointError::PortTaken { .. }) => "publish another port, or remove what has it".to_owned(),
            Self::Missing { kind, name, .. } => format!("create it first: berth {kind} create {name}"),
            Self::TokenLifetime => "make a new one with it: --rotate".to_owned(),
            Self::Circle { .. } => "leave out one of these dependencies".to_owned(),
            Self::NodeNotDown { .. } => "stop its daemon first, or use --force".to_owned(),
            Self::NodeIsManager { name } => format!("demote it first: berth node demote {name}"),
            Self::LastManager { .. } => "promote another node first: berth node promote NODE".to_owned(),
            Self::LastLeaves { .. } => {
                "promote another node first (berth node promote NODE), or end the cluster: stop the \
                                        daemon and run `berth reset`"
                    .to_owned()
            }
            Self::NoQuorum { .. } => "bring the others back first, or promote another node".to_owned(),
            Self::NotFound { kind: ObjectKind::Task, .. } => "`berth task ls` lists the tasks".to_owned(),
            Self::NotFound { kind, .. } => format!("`berth {kind} ls` lists what there is"),
            Self::TokenTaken { name } => format!("choose another name, or take it away first: berth token rm {name}"),
            Self::NotACertificate => {
                "it takes the client's certificate, without its key: berth token create NAME --certificate FILE"
                    .to_owned()
            }
            Self::CertificateTaken { name } => format!("take it away first: berth token rm {name}"),
            Self::TooManyTokens { .. } => "take some away: berth token rm NAME".to_owned(),
            Self::NoToken { .. } => "`berth token ls` lists them".to_owned(),
            Self::Ambiguous { .. } => "give more characters of the id".to_owned(),
            _ => String::new(),
        }
    }

    fn errors(&self) -> Vec<pb::FieldError> {
        let Self::Invalid { invalid, .. } = self else { return Vec::new() };
        let error = |error: &berth_proto::validate::FieldError| {
            let hint = if error.hint.is_empty() { String::new() } else { format!(" ({})", error.hint) };
            pb::FieldError { path: error.path.clone(), message: format!("{}{hint}", error.problem) }
        };
        invalid.errors.iter().map(error).collect()
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let details = pb::Refusal { errors: refused.errors(), hint: refused.hint() };
        Self::with_details(refused.code(), refused.to_string(), details.encode_to_vec().into())
    }
}
