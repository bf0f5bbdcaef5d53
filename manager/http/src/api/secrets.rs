//! Secrets. What they hold goes in, and never comes out.

use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode};
use berth_manager::api::find;
use berth_proto::filter;
use berth_proto::object::{self, ObjectKind};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::SecretSpec;
use berth_proto::state::ApiRole;

use super::answer::{Answer, By, created, declined, shown, tagged};
use super::describe::{Api, Op};
use super::input::{Condition, Json, Word};
use super::model::{Secret, SecretInput};
use super::{list, removal};
use crate::problem::{Problem, refused};
use crate::site::Site;

const TAG: &str = "secrets";
const PLACE: &str = "/api/v1/secrets";

/// Secrets.
pub fn api() -> Api {
    let one = |id: &str, summary: &str| Op::new(TAG, id, summary).word("secret");
    Api::default()
        .add(
            Method::GET,
            PLACE,
            ApiRole::Viewer,
            list_secrets,
            Op::new(TAG, "list_secrets", "Secrets").pages::<Secret>(&filter::FILE),
        )
        .add(
            Method::POST,
            PLACE,
            ApiRole::Operator,
            create,
            Op::new(TAG, "create_secret", "Make a secret").takes::<SecretInput>(true).creates::<Secret>("The secret"),
        )
        .add(
            Method::GET,
            "/api/v1/secrets/{secret}",
            ApiRole::Viewer,
            get,
            one("get_secret", "One secret, without what it holds").stale().answers_tagged::<Secret>("The secret"),
        )
        .add(
            Method::PUT,
            "/api/v1/secrets/{secret}",
            ApiRole::Operator,
            replace,
            one("replace_secret", "Give a secret another content")
                .about("Services that show it are updated to it, by their own rules.")
                .takes::<SecretInput>(true)
                .if_match(true)
                .writes()
                .answers_tagged::<Secret>("The secret"),
        )
        .add(
            Method::DELETE,
            "/api/v1/secrets/{secret}",
            ApiRole::Operator,
            remove,
            one("remove_secret", "Remove a secret that nothing uses")
                .if_match(false)
                .writes()
                .answers_nothing("It is gone"),
        )
}

async fn list_secrets(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let asked = list::read(query.as_deref(), &filter::FILE)?;
    let state = site.state(asked.stale).await?;
    let wants = |secret: &&object::Secret| {
        let spec = &secret.spec;
        asked.filters.file(secret.id, &spec.name, spec.stack.as_deref(), &spec.labels)
    };
    let all = state.secrets().map(|secret| &**secret);
    Ok(shown(&asked.page(state.index(), all, |secret| secret.id, wants, Secret::new)?))
}

async fn get(State(site): State<Site>, Word(word): Word, RawQuery(query): RawQuery) -> Answer {
    let state = site.state_for(query.as_deref()).await?;
    let secret = find::secret(&state, &word).map_err(refused)?;
    Ok(tagged(secret.meta.version, &Secret::new(secret)))
}

async fn create(State(site): State<Site>, by: By, Json(spec): Json<SecretInput>) -> Answer {
    let spec = SecretSpec::from(spec);
    let request = pb::SecretCreateRequest { spec: Some((&spec).into()) };
    let id = site.control.secret_create(by.asks(request)).await?.into_inner().id;
    let state = site.manager.hub.snapshot();
    let secret = find::secret(&state, &id).map_err(refused)?;
    created(PLACE, secret.id, secret.meta.version, &Secret::new(secret))
}

async fn replace(
    State(site): State<Site>,
    Word(word): Word,
    condition: Condition,
    by: By,
    Json(spec): Json<SecretInput>,
) -> Answer {
    let state = site.state(false).await?;
    let secret = find::secret(&state, &word).map_err(refused)?;
    let (id, version) = (secret.id, condition.required(secret.meta.version)?);
    if spec.name != secret.spec.name {
        let detail = format!("secret {} cannot be renamed to {}", secret.spec.name, spec.name);
        return Err(Problem::of_field(StatusCode::UNPROCESSABLE_ENTITY, "name", detail));
    }
    let spec = SecretSpec::from(spec);
    let request = pb::SecretUpdateRequest { id: id.to_string(), version, spec: Some((&spec).into()) };
    let done = site.control.secret_update(by.asks(request)).await;
    done.map_err(|status| declined(status, || site.manager.hub.snapshot().secret(id).map(|one| one.meta.version)))?;
    let state = site.manager.hub.snapshot();
    let secret = find::secret(&state, &id.to_string()).map_err(refused)?;
    Ok(tagged(secret.meta.version, &Secret::new(secret)))
}

async fn remove(State(site): State<Site>, Word(word): Word, condition: Condition, by: By) -> Answer {
    let state = site.state(false).await?;
    let secret = find::secret(&state, &word).map_err(refused)?;
    removal::remove(&site, &by, ObjectKind::Secret, secret.id.into(), condition.version(secret.meta.version)?).await
}
