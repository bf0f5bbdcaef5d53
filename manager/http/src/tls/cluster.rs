//! A manager's certificate for HTTP: of the cluster's CA, for the names and addresses that people reach it by. Its key is drawn at
//! each start and never leaves the process. Made anew in the second half of its life and when the CA has another root.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_manager::identity::authority;
use berth_manager::store::{Hub, State};
use berth_proto::time::Timestamp;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Shown, TlsError, certified};

/// Between two looks at the root and the time.
const LOOK: Duration = Duration::from_secs(1);

/// A certificate, and what it was made from.
struct Made {
    pair: Arc<CertifiedKey>,
    root: [u8; 32],
    renew_at: Timestamp,
}

/// A certificate of the CA in the state of `hub`, until `stop`. `names` are host names and addresses.
///
/// # Errors
/// When the CA makes none now.
pub fn of_cluster(hub: Hub, names: Vec<String>, stop: CancellationToken) -> Result<Shown, TlsError> {
    let mut made = make(&hub.snapshot(), &names)?;
    let (show, shown) = watch::channel(Arc::clone(&made.pair));
    tokio::spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() && !show.is_closed() {
            let state = hub.snapshot();
            if root_of(&state).is_none_or(|root| root == made.root) && now() < made.renew_at {
                continue;
            }
            match make(&state, &names) {
                Ok(new) => {
                    tracing::info!("the certificate for HTTP is renewed");
                    made = new;
                    show.send_replace(Arc::clone(&made.pair));
                }
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "no new certificate for HTTP"),
            }
        }
    });
    Ok(shown)
}

fn make(state: &State, names: &[String]) -> Result<Made, TlsError> {
    let none = || TlsError::from(authority::AuthorityError::None);
    let (cluster, now) = (state.cluster().ok_or_else(none)?, now());
    let server = authority::sign_server(cluster, names, now, rand::random())?;
    let chain = server.chain.iter().map(|certificate| CertificateDer::from(certificate.to_vec())).collect();
    Ok(Made {
        pair: certified(chain, PrivatePkcs8KeyDer::from(server.key.0.to_vec()).into())?,
        root: root_of(state).ok_or_else(none)?,
        renew_at: now.after(cluster.spec.certificate_lifetime / 2),
    })
}

/// What tells the root that signs now from others.
fn root_of(state: &State) -> Option<[u8; 32]> {
    let authority = state.cluster()?.authority.as_ref()?;
    Some(berth_manager::api::token::digest_of(&authority.root.certificate))
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
