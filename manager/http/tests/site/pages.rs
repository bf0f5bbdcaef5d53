//! The frame and the main pages, as browsers get them: who sees what, that nothing that somebody wrote becomes part of a page,
//! what the forms do, and the stream that tells a page to look again.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::dom::Page;
use crate::support::{PATIENCE, Server, client, now};
use axum::http::Method;
use berth_http::routes::{Needs, all};
use berth_proto::id::{NodeId, ServiceId};
use berth_proto::object::{Cluster, Node, Service, TaskStatus};
use berth_proto::spec::{ClusterSpec, ServiceMode, ServiceSpec};
use berth_proto::state::{ApiRole, Availability, NodeRole, TaskState};
use reqwest::{RequestBuilder, Response};
use tokio_stream::StreamExt;

const ATTACK: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>";

fn encoded(pairs: &[(&str, &str)]) -> String {
    let part = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    pairs.iter().map(|(key, value)| format!("{key}={}", part(value))).collect::<Vec<_>>().join("&")
}

fn form(request: RequestBuilder, pairs: &[(&str, &str)]) -> RequestBuilder {
    request.header("content-type", "application/x-www-form-urlencoded").body(encoded(pairs))
}

fn to(answer: &Response) -> String {
    answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned()).unwrap_or_default()
}

trait Browses {
    async fn page(&self, path: &str, role: ApiRole) -> Page;
    async fn send(&self, path: &str, role: ApiRole, pairs: &[(&str, &str)]) -> (u16, String, Page);
    async fn send_by_script(&self, path: &str, role: ApiRole, pairs: &[(&str, &str)]) -> (u16, Page);
}

impl Browses for Server {
    async fn page(&self, path: &str, role: ApiRole) -> Page {
        let (status, text) = self.get(path, Some(role)).await;
        assert_eq!(status, 200, "{path}: {text}");
        Page::parse(&text)
    }

    /// Status, where it leads, and the page.
    async fn send(&self, path: &str, role: ApiRole, pairs: &[(&str, &str)]) -> (u16, String, Page) {
        let request = form(self.ask(Method::POST, path, Some(role)).await, pairs).header("accept", "text/html");
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), to(&answer), Page::parse(&answer.text().await.unwrap()))
    }

    /// Status, and what is put into the page.
    async fn send_by_script(&self, path: &str, role: ApiRole, pairs: &[(&str, &str)]) -> (u16, Page) {
        let request = form(self.ask(Method::POST, path, Some(role)).await, pairs).header("hx-request", "true");
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), Page::parse(&answer.text().await.unwrap()))
    }
}

/// Every page of this part, with the objects that the server has.
fn pages(server: &Server) -> Vec<String> {
    let state = server.state();
    let mut pages = vec!["/".to_owned(), "/services".to_owned()];
    pages.extend(state.services().map(|service| format!("/services/{}", service.id)));
    pages.extend(state.nodes().map(|node| format!("/nodes/{}", node.id)));
    pages
}

/// The role that a path takes; `None` when no route has it.
fn needed(method: &Method, path: &str) -> Option<Needs> {
    let path = path.split(['?', '#']).next().unwrap();
    let fits = |pattern: &str| {
        let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len()
            && pattern.iter().zip(&path).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
    };
    let table = all();
    let mut routes = table.table().iter().filter(|route| route.method == *method && fits(route.path));
    routes.next().map(|route| route.needs)
}

fn may(role: ApiRole, needs: Needs) -> bool {
    match needs {
        Needs::Nothing => true,
        Needs::Role(needed) => role >= needed,
    }
}

async fn with_a_service() -> (Server, crate::support::Agent, ServiceId) {
    let server = Server::start().await;
    let node = server.node("one").await;
    let service = server.service("web", 2).await;
    server.running(service, 2).await;
    (server, node, service)
}

/// Waits until the loops write to the service no more, and gives its version.
async fn settled(server: &Server, service: ServiceId) -> u64 {
    let version = || server.state().service(service).unwrap().meta.version;
    server
        .until("the allocator to have seen the service", |state| {
            state.service(service).is_some_and(|service| service.endpoint.is_some())
        })
        .await;
    version()
}

#[tokio::test]
async fn every_page_answers_for_an_empty_cluster_and_for_a_full_one() {
    let server = Server::start().await;
    for path in pages(&server) {
        server.page(&path, ApiRole::Viewer).await;
    }
    let services = server.page("/services", ApiRole::Viewer).await;
    assert!(services.text("#services").contains("No services yet"), "{}", services.text("main"));

    let node = server.node("two").await;
    let asleep = server.silent_node("asleep").await;
    let service = server.service("web", 3).await;
    server.running(service, 3).await;
    for path in pages(&server) {
        server.page(&path, ApiRole::Viewer).await;
    }
    let cluster = server.page("/", ApiRole::Viewer).await;
    let card = format!("#n-{}", node.node);
    assert_eq!(cluster.all(&format!("{card} .tile.s-run")).len(), 3);
    assert_eq!(cluster.all(".node").len(), server.state().nodes().count());
    let state = server.state().node(asleep).unwrap().status.state;
    let told = cluster.text(&format!("#n-{asleep} header"));
    assert!(told.contains("asleep") && (told.contains("unknown") || told.contains("down")), "{told}, now {state}");
    for tile in cluster.all(".tile") {
        // The state is told by a letter and in words, too.
        assert_eq!(tile.text(), "R");
        assert!(tile.attribute("aria-label").unwrap().contains("running on two"));
    }
    assert!(cluster.text("#summary").contains("3 running") && cluster.text("#summary").contains("1/1 services"));
    let meters: Vec<_> =
        cluster.all(&format!("{card} .meter")).into_iter().map(|one| one.attribute("aria-label").unwrap()).collect();
    assert_eq!(meters, ["cpu: use not known, 0 reserved, of 8 cpus", "mem: use not known, 0 B reserved, of 8 GiB"]);
}

#[tokio::test]
async fn nobody_is_shown_a_button_or_link_that_would_be_refused() {
    let (server, _node, _service) = with_a_service().await;
    for role in [ApiRole::Viewer, ApiRole::Operator, ApiRole::Admin] {
        let mut actions = BTreeSet::new();
        let mut paths = pages(&server);
        if role >= ApiRole::Operator {
            paths.push(format!("/nodes/{}/drain", server.state().nodes().next().unwrap().id));
        }
        for path in paths {
            let page = server.page(&path, role).await;
            let post = page.all("form[method=post]").into_iter().filter_map(|form| form.attribute("action"));
            let script = page.all("[hx-post]").into_iter().filter_map(|form| form.attribute("hx-post"));
            for action in post.chain(script) {
                let needs = needed(&Method::POST, action).unwrap_or_else(|| panic!("{path}: no route for {action}"));
                assert!(may(role, needs), "{path} shows {action} to {role}");
                actions.insert(action.rsplit('/').next().unwrap().to_owned());
            }
            let gets = [("a", "href"), ("link", "href"), ("script", "src"), ("form:not([method=post])", "action")];
            for (what, attribute) in gets {
                for element in page.all(what).into_iter().filter(|one| one.attribute("data-host").is_none()) {
                    let Some(link) = element.attribute(attribute).filter(|link| !link.starts_with('#')) else {
                        continue;
                    };
                    let needs = needed(&Method::GET, link).unwrap_or_else(|| panic!("{path}: no route for {link}"));
                    assert!(may(role, needs), "{path} leads {role} to {link}");
                }
            }
            // Every region that is kept current can be found again.
            for region in page.all("[data-live]") {
                let id = region.attribute("id").unwrap();
                assert_eq!(page.all(&format!("#{id}")).len(), 1, "{path}: {id}");
            }
            let stream = page.one("body").attribute("data-stream").unwrap();
            assert_eq!(needed(&Method::GET, stream), Some(Needs::Role(ApiRole::Viewer)));
        }
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        let wanted: &[&str] = match role {
            ApiRole::Viewer => &["logout"],
            ApiRole::Operator => &["drain", "logout", "pause", "remove", "restart", "scale", "update"],
            ApiRole::Admin => {
                &["demote", "drain", "logout", "pause", "promote", "remove", "restart", "scale", "update"]
            }
        };
        assert_eq!(actions, wanted, "{role}");
    }
}

#[tokio::test]
async fn what_somebody_wrote_stays_text() {
    let server = Server::start().await;
    let node = server.node(ATTACK).await;
    let container = berth_proto::spec::ContainerSpec { image: format!("img{ATTACK}"), ..Default::default() };
    let mut spec = ServiceSpec::new("web".parse().unwrap(), container);
    spec.mode = ServiceMode::Replicated { replicas: 1 };
    spec.labels.insert("label".into(), ATTACK.into());
    server.write(|_, tx| tx.create(Service::new(berth_proto::id::Id::from_random(7), spec.clone()))).await;
    server
        .write(|state, tx| {
            let cluster = state.cluster().unwrap();
            let spec = ClusterSpec { name: ATTACK.into(), ..cluster.spec.clone() };
            tx.update(Cluster { spec, ..Cluster::clone(cluster) });
        })
        .await;
    let service = server.state().service_by_name("web").unwrap().id;
    let task = server.running(service, 1).await.remove(0);
    let failed = TaskStatus { state: TaskState::Failed, at: now(), error: ATTACK.into(), ..TaskStatus::default() };
    node.report(&task.id.to_string(), failed).await;
    server.until("the task to fail", |state| state.task(task.id).unwrap().status.error == ATTACK).await;
    let amended = server.write(|state, tx| {
        let found = state.node(node.node).unwrap();
        let mut changed = Node::clone(found);
        changed.spec.labels.insert("label".into(), ATTACK.into());
        tx.update(changed);
    });
    amended.await;

    let mut paths = pages(&server);
    paths.push(format!("/nodes/{}/drain", node.node));
    paths.push(format!("/?q={}", encoded(&[("", ATTACK)]).trim_start_matches('=')));
    for path in paths {
        let page = server.page(&path, ApiRole::Admin).await;
        assert!(page.all("img, script:not([src]), style, [style]").is_empty(), "{path}");
        for element in page.all("*") {
            let bad =
                element.attributes().find(|(name, value)| name.starts_with("on") || value.starts_with("javascript:"));
            assert_eq!(bad, None, "{path}: {}", element.name());
        }
        assert!(page.text("head title").contains(ATTACK), "{path}: the cluster's name is shown");
    }
    let page = server.page(&format!("/nodes/{}", node.node), ApiRole::Viewer).await;
    assert_eq!(page.text("h1"), ATTACK);
    assert!(page.text("#state").contains(&format!("label={ATTACK}")));
    let page = server.page("/services/web", ApiRole::Viewer).await;
    assert!(page.text("#tasks").contains(ATTACK) && page.text("#spec").contains(ATTACK));
    // What was asked for is told back as text, too.
    let request = server.ask(Method::GET, "/services/%3Cscript%3E", Some(ApiRole::Viewer)).await;
    let answer = request.header("accept", "text/html").send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let page = Page::parse(&answer.text().await.unwrap());
    assert!(page.text(".notice").contains("<script>") && page.all("main script").is_empty());
}

#[tokio::test]
async fn a_login_is_a_cookie_that_ends_with_the_logout() {
    let server = Server::start().await;
    let token = server.token(ApiRole::Viewer).await;
    let answer = client().get(server.url("/")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), to(&answer)), (303, "/login".into()));
    let (status, text) = server.get("/login", None).await;
    let page = Page::parse(&text);
    assert_eq!((status, page.text("h1")), (200, "Log in".into()));
    assert!(page.all("nav, [role=alert]").is_empty(), "nothing of the cluster is shown before the login");
    let own = ("sec-fetch-site", "same-origin");
    let log_in = |token: &str| form(client().post(server.url("/login")), &[("token", token)]).header(own.0, own.1);

    let answer = log_in("berth-wrong").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), to(&answer)), (303, "/login?wrong".into()));
    let (_, text) = server.get("/login?wrong", None).await;
    assert!(Page::parse(&text).text("[role=alert]").contains("not valid"));

    let answer = log_in(&token).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), to(&answer)), (303, "/".into()));
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let answer = client().get(server.url("/")).header("cookie", &cookie).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let page = Page::parse(&answer.text().await.unwrap());
    assert!(page.text(".who").contains("viewer") && page.all("nav a[href='/tokens']").is_empty());

    let answer = client().post(server.url("/logout")).header("cookie", &cookie).header(own.0, own.1);
    let answer = answer.send().await.unwrap();
    assert!(answer.headers()["set-cookie"].to_str().unwrap().starts_with("berth_token=;"));
    assert_eq!(to(&answer), "/login");
}

#[tokio::test]
async fn who_tries_too_often_is_told_so_in_a_page() {
    let server = Server::start().await;
    let mut last = None;
    for _ in 0..100 {
        let request = form(client().post(server.url("/login")), &[("token", "berth-wrong")]);
        let request = request.header("sec-fetch-site", "same-origin").header("accept", "text/html");
        let answer = request.send().await.unwrap();
        if answer.status() == 429 {
            last = Some(answer.text().await.unwrap());
            break;
        }
    }
    let page = Page::parse(&last.expect("an end of trying"));
    assert!(page.text(".notice").contains("too many wrong tokens"), "{}", page.text("main"));
    assert!(page.all("nav").is_empty());
}

#[tokio::test]
async fn another_site_cannot_act_with_a_browsers_cookie() {
    let (server, _node, service) = with_a_service().await;
    let cookie = format!("berth_token={}", server.token(ApiRole::Operator).await);
    let path = format!("/services/{service}/scale");
    let scale = |site: &'static str| {
        let request = form(client().post(server.url(&path)), &[("replicas", "5")]);
        request.header("cookie", &cookie).header("sec-fetch-site", site).header("accept", "text/html").send()
    };
    let answer = scale("cross-site").await.unwrap();
    assert_eq!(answer.status(), 403);
    assert!(Page::parse(&answer.text().await.unwrap()).text(".notice").contains("another site"));
    let replicas = || server.state().service(service).unwrap().spec.mode;
    assert_eq!(replicas(), ServiceMode::Replicated { replicas: 2 });
    assert_eq!(scale("same-origin").await.unwrap().status(), 303);
    assert_eq!(replicas(), ServiceMode::Replicated { replicas: 5 });
}

#[tokio::test]
async fn a_service_is_scaled_updated_restarted_rolled_back_and_removed() {
    let (server, _node, id) = with_a_service().await;
    let path = format!("/services/{id}");
    let service = || server.state().service(id).unwrap().clone();
    let replicas = || service().spec.mode;
    let scale = format!("{path}/scale");

    let (status, to, _) = server.send(&scale, ApiRole::Operator, &[("by", "1")]).await;
    assert_eq!((status, to.as_str(), replicas()), (303, &*path, ServiceMode::Replicated { replicas: 3 }));
    // Below nothing there is nothing.
    server.send(&scale, ApiRole::Operator, &[("by", "-9")]).await;
    assert_eq!(replicas(), ServiceMode::Replicated { replicas: 0 });
    let (status, said) = server.send_by_script(&scale, ApiRole::Operator, &[("replicas", "2")]).await;
    assert_eq!((status, said.text("#notice.good")), (200, "web is to have 2 replicas.".into()));
    let (status, said) = server.send_by_script(&scale, ApiRole::Operator, &[]).await;
    assert_eq!((status, said.text("#notice.bad strong")), (422, "replicas: say how many".into()));
    let (status, said) = server.send_by_script(&scale, ApiRole::Viewer, &[("replicas", "9")]).await;
    assert_eq!(status, 403);
    assert!(said.text("#notice.bad").contains("takes the role operator"), "{}", said.text("body"));
    server.running(id, 2).await;

    let version = settled(&server, id).await.to_string();
    let update = |version: &str, image: &str| {
        [("version", version), ("image", image), ("parallelism", "2"), ("delay", "0s"), ("monitor", "0s")]
            .into_iter()
            .chain([("order", "start-first"), ("failure", "rollback")])
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect::<Vec<_>>()
    };
    let send_update = async |version: &str, image: &str| {
        let fields = update(version, image);
        let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        server.send_by_script(&format!("{path}/update"), ApiRole::Operator, &fields).await
    };
    let (status, said) = send_update(&version, "example.org/app:2").await;
    assert_eq!((status, said.text("#notice.good")), (200, "web is to run example.org/app:2.".into()));
    // Somebody else has changed it since the page was made: they are told, and nothing is overwritten.
    let (status, said) = send_update(&version, "example.org/app:3").await;
    assert_eq!(status, 412);
    assert!(said.text("#notice.bad").contains("web was changed by somebody else"), "{}", said.text("body"));
    assert_eq!(service().spec.task.container.image, "example.org/app:2");
    server
        .until("the update to be done", |state| {
            let service = state.service(id).unwrap();
            let new = |task: &&Arc<berth_proto::object::Task>| {
                task.spec_version == service.spec_version && task.status.state == TaskState::Running
            };
            state.tasks_of_service(id).filter(new).count() == 2
        })
        .await;
    let page = server.page(&path, ApiRole::Operator).await;
    assert!(page.text("#ask-rollback").contains("example.org/app:1"), "{}", page.text("#actions"));

    let (status, to, _) = server.send(&format!("{path}/rollback"), ApiRole::Operator, &[]).await;
    assert_eq!((status, to.as_str()), (303, &*path));
    assert_eq!(service().spec.task.container.image, "example.org/app:1");
    assert!(server.page(&path, ApiRole::Operator).await.all("#ask-rollback").is_empty());

    let before = service().spec.task.force_update;
    let restart = async || {
        let version = service().meta.version.to_string();
        server.send(&format!("{path}/restart"), ApiRole::Operator, &[("version", &version)]).await.0
    };
    // The update loop may write in between, and that is a conflict.
    crate::support::eventually("a restart", async || match restart().await {
        303 => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(service().spec.task.force_update, before + 1);

    let (status, _) = server.send_by_script(&format!("{path}/remove"), ApiRole::Operator, &[]).await;
    assert_eq!(status, 200);
    server.until("the service to be gone", |state| state.service(id).is_none()).await;
}

#[tokio::test]
async fn what_is_done_is_done_under_the_tokens_name() {
    let (server, _node, id) = with_a_service().await;
    let (state, mut commits) = server.handle.hub.subscribe();
    server.send(&format!("/services/{id}/scale"), ApiRole::Operator, &[("replicas", "4")]).await;
    let authors = async {
        loop {
            let commit = commits.next().await.unwrap();
            if let Some((_, author)) = commit.authored().find(|(event, _)| event.reference() == id.into()) {
                return author.actor.to_string();
            }
        }
    };
    let author = tokio::time::timeout(PATIENCE, authors).await.expect("a commit");
    assert_eq!(author, "token operator", "after index {}", state.index());
}

#[tokio::test]
async fn before_a_drain_it_is_shown_what_will_move() {
    let server = Server::start().await;
    let one = server.node("one").await;
    let service = server.service("web", 2).await;
    server.running(service, 2).await;
    let path = format!("/nodes/{}", one.node);
    let page = server.page(&format!("{path}/drain"), ApiRole::Operator).await;
    assert!(page.text("#moves").contains("2 nowhere"), "{}", page.text("#moves"));
    let two = server.node("two").await;
    let page = server.page(&format!("{path}/drain"), ApiRole::Operator).await;
    assert_eq!(page.text("#moves tbody tr"), "web 2 2 to two");
    let (status, text) = server.get(&format!("{path}/drain"), Some(ApiRole::Viewer)).await;
    assert_eq!(status, 403, "{text}");
    assert_eq!(server.state().node(one.node).unwrap().spec.availability, Availability::Active, "nothing was done");

    let (status, to, _) = server.send(&format!("{path}/drain"), ApiRole::Operator, &[]).await;
    assert_eq!((status, to.as_str()), (303, &*path));
    server
        .until("the tasks to have moved", |state| {
            let running = state.tasks_on_node(two.node).filter(|task| task.status.state == TaskState::Running);
            running.count() == 2
        })
        .await;
    let page = server.page(&path, ApiRole::Operator).await;
    assert!(page.text("#state").contains("drained") && page.all("#drain").is_empty());
    let availability = |node: NodeId| server.state().node(node).unwrap().spec.availability;
    let (status, said) = server.send_by_script(&format!("{path}/activate"), ApiRole::Operator, &[]).await;
    assert_eq!((status, said.text("#notice.good")), (200, "one takes tasks again.".into()));
    assert_eq!(availability(one.node), Availability::Active);
    server.send(&format!("{path}/pause"), ApiRole::Operator, &[]).await;
    assert_eq!(availability(one.node), Availability::Pause);
}

#[tokio::test]
async fn members_are_for_admins() {
    let server = Server::start().await;
    let node = server.silent_node("asleep").await;
    let path = format!("/nodes/{node}");
    for action in ["promote", "demote", "remove"] {
        let (status, ..) = server.send(&format!("{path}/{action}"), ApiRole::Operator, &[]).await;
        assert_eq!(status, 403, "{action}");
    }
    let role = || server.state().node(node).unwrap().spec.role;
    server.send(&format!("{path}/promote"), ApiRole::Admin, &[]).await;
    assert_eq!(role(), NodeRole::Manager);
    // The refusal of the control API is readable, and says what to do.
    let (status, _, page) = server.send(&format!("{path}/remove"), ApiRole::Admin, &[]).await;
    assert_eq!((status, page.text(".notice strong")), (409, "node asleep is a manager".into()));
    assert!(page.text(".notice .hint").contains("demote"));
    assert_eq!(page.all("main a")[0].attribute("href"), Some(&*path));
    server.send(&format!("{path}/demote"), ApiRole::Admin, &[]).await;
    assert_eq!(role(), NodeRole::Worker);
    let (status, to, _) = server.send(&format!("{path}/remove"), ApiRole::Admin, &[("force", "true")]).await;
    assert_eq!((status, to.as_str()), (303, "/"));
    assert!(server.state().node(node).is_none());
}

/// The next event of the stream that has one of these names.
async fn event(stream: &mut (impl StreamExt<Item = reqwest::Result<bytes::Bytes>> + Unpin), names: &[&str]) -> String {
    let wanted = async {
        loop {
            let part = stream.next().await.expect("a stream that goes on").unwrap();
            let text = String::from_utf8(part.to_vec()).unwrap();
            if let Some(line) = text.lines().find(|line| names.iter().any(|name| *line == format!("event: {name}"))) {
                return line.to_owned();
            }
        }
    };
    tokio::time::timeout(PATIENCE, wanted).await.expect("an event")
}

#[tokio::test]
async fn a_stream_tells_when_to_look_again() {
    let server = Server::start().await;
    let answer = server.ask(Method::GET, "/live?kinds=service", Some(ApiRole::Viewer)).await.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut stream = answer.bytes_stream();
    event(&mut stream, &["look"]).await;
    // Nothing happens, and it says so; then something does.
    event(&mut stream, &["still"]).await;
    server.service("web", 1).await;
    event(&mut stream, &["look"]).await;

    let (status, text) = server.get("/live?kinds=services", Some(ApiRole::Viewer)).await;
    assert_eq!(status, 400, "{text}");
    let (status, _) = server.get("/live", None).await;
    assert_eq!(status, 303, "a page that asks is led to the login");
}

#[tokio::test]
async fn files_are_kept_for_ever_under_a_path_that_changes_with_them() {
    let server = Server::start().await;
    let (_, text) = server.get("/login", None).await;
    let page = Page::parse(&text);
    let style = page.all("link[href]").into_iter().filter_map(|link| link.attribute("href"));
    let style = style.into_iter().find(|href| href.ends_with("berth.css")).unwrap();
    let answer = client().get(server.url(style)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(answer.headers()["content-type"], "text/css; charset=utf-8");
    let answer = client().get(server.url("/assets/0000000000000000/berth.css")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["cache-control"]), (200, &"no-cache".parse().unwrap()));
    let (status, _) = server.get("/assets/0000000000000000/passwd", None).await;
    assert_eq!(status, 404);
    // Nothing that is sent names another host.
    for name in ["berth.css", "live.js", "keys.js", "pure.js", "theme.js"] {
        let (_, text) = server.get(&format!("/assets/0/{name}"), None).await;
        assert!(!text.contains("http://") && !text.contains("https://"), "{name}");
    }
}

#[tokio::test]
async fn a_program_gets_a_problem_and_a_person_a_page() {
    let server = Server::start().await;
    let nowhere = async |accept: &'static str| {
        let request = server.ask(Method::GET, "/nowhere", Some(ApiRole::Viewer)).await;
        request.header("accept", accept).send().await.unwrap()
    };
    let answer = nowhere("*/*").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (404, &"application/problem+json".parse().unwrap())
    );
    let answer = nowhere("text/html").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (404, &"text/html; charset=utf-8".parse().unwrap())
    );
    let page = Page::parse(&answer.text().await.unwrap());
    assert!(page.text(".notice").contains("nothing is served at /nowhere") && !page.all("nav a").is_empty());
    // A script whose login has ended is led to the login.
    let request = form(client().post(server.url("/services/x/scale")), &[("by", "1")]).header("hx-request", "true");
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["hx-redirect"]), (401, &"/login".parse().unwrap()));
}
