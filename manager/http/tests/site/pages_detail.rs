//! The detail pages, as browsers get them: who sees what, that nothing that somebody wrote becomes part of the page, what the
//! forms do.
#![allow(missing_docs, clippy::unwrap_used)]

use axum::http::Method;
use berth_http::routes::{Needs, all};
use berth_proto::object::{ContainerStatus, TaskStatus};
use berth_proto::state::{ApiRole, TaskState};

use crate::support::dom::Page;
use crate::support::{Server, now};

const SHOP: &str = "services:
  web:
    image: example.org/web:1
    ports: ['8080:80']
    networks: [front]
    secrets: [key]
    volumes: ['data:/data']
    deploy: {replicas: 2}
networks: {front: {}}
volumes: {data: {}}
secrets: {key: {environment: KEY}}
";

/// The same without what has to come from a shell.
fn shop() -> String {
    SHOP.replace("secrets: [key]", "configs: [motd]")
        .replace("secrets: {key: {environment: KEY}}", "configs: {motd: {content: hello}}")
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    let part = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    pairs.iter().map(|(key, value)| format!("{key}={}", part(value))).collect::<Vec<_>>().join("&")
}

trait Browses {
    async fn page(&self, path: &str, role: ApiRole) -> Page;
    async fn send(&self, path: &str, role: ApiRole, form: &[(&str, &str)]) -> (u16, String, Page);
}

impl Browses for Server {
    async fn page(&self, path: &str, role: ApiRole) -> Page {
        let (status, text) = self.get(path, Some(role)).await;
        assert_eq!(status, 200, "{path}: {text}");
        Page::parse(&text)
    }

    /// Status, where it leads, and the page.
    async fn send(&self, path: &str, role: ApiRole, form: &[(&str, &str)]) -> (u16, String, Page) {
        let request = self.ask(Method::POST, path, Some(role)).await;
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(encoded(form));
        let answer = request.header("accept", "text/html").send().await.unwrap();
        let to = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned()).unwrap_or_default();
        (answer.status().as_u16(), to, Page::parse(&answer.text().await.unwrap()))
    }
}

/// Plans and applies as a person does who presses the two buttons.
async fn apply(server: &Server, stack: &str, text: &str) {
    let (status, _, plan) = server.send("/apply", ApiRole::Operator, &[("stack", stack), ("text", text)]).await;
    assert_eq!(status, 200, "{}", plan.text("#plan"));
    let (planned, expected) = (
        plan.one("[name=planned]").attribute("value").unwrap().to_owned(),
        plan.one("[name=expected]").attribute("value").unwrap().to_owned(),
    );
    let form = [("stack", stack), ("text", text), ("planned", &planned), ("expected", &expected), ("what", "apply")];
    let (status, to, page) = server.send("/apply", ApiRole::Operator, &form).await;
    assert_eq!((status, to), (303, format!("/stacks/{stack}")), "{}", page.text("main"));
}

/// Every page of this part, with the objects that the server has.
fn pages(server: &Server) -> Vec<String> {
    let state = server.state();
    let mut pages: Vec<String> = ["/events", "/networks", "/volumes", "/configs", "/secrets", "/images", "/stacks"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    pages.extend(state.tasks().map(|task| format!("/tasks/{}", task.id)));
    pages.extend(state.networks().map(|network| format!("/networks/{}", network.id)));
    pages.extend(state.services().map(|service| format!("/services/{}/logs", service.id)));
    pages.push("/stacks/shop".to_owned());
    pages
}

/// The role that a POST to this path takes.
fn needed(path: &str) -> Needs {
    let fits = |pattern: &str| {
        let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len()
            && pattern.iter().zip(&path).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
    };
    let table = all();
    let routes: Vec<_> =
        table.table().iter().filter(|route| route.method == Method::POST && fits(route.path)).collect();
    // A path that is spelled out wins over one with a parameter.
    let exact = routes.iter().find(|route| route.path == path).or(routes.first());
    exact.unwrap_or_else(|| panic!("no route takes a POST to {path}")).needs
}

#[tokio::test]
async fn nobody_is_shown_a_button_that_would_be_refused() {
    let server = Server::start().await;
    let _node = server.node("one").await;
    apply(&server, "shop", &shop()).await;
    let service = server.state().service_by_name("shop_web").unwrap().id;
    server.running(service, 2).await;
    for role in [ApiRole::Viewer, ApiRole::Operator, ApiRole::Admin] {
        let mut forms = 0;
        let mut paths = pages(&server);
        paths.extend((role >= ApiRole::Operator).then(|| "/apply".to_owned()));
        paths.extend((role == ApiRole::Admin).then(|| "/tokens".to_owned()));
        for path in paths {
            let page = server.page(&path, role).await;
            let post = page.all("form[method=post]").into_iter().filter_map(|form| form.attribute("action"));
            let script = page.all("[hx-post]").into_iter().filter_map(|form| form.attribute("hx-post"));
            for action in post.chain(script) {
                forms += usize::from(action != "/logout");
                let allowed = match needed(action) {
                    Needs::Nothing => true,
                    Needs::Role(needed) => role >= needed,
                };
                assert!(allowed, "{path} shows {action} to {role}");
            }
            let has_terminal = !page.all("[data-terminal]").is_empty();
            assert_eq!(has_terminal, role >= ApiRole::Operator && path.starts_with("/tasks/"), "{path} for {role}");
            let links = page.all("main a[href^='/apply']").len();
            assert!(role >= ApiRole::Operator || links == 0, "{path} leads a viewer to /apply");
        }
        assert_eq!(forms == 0, role == ApiRole::Viewer, "{forms} forms for {role}");
    }
}

#[tokio::test]
async fn pages_have_nothing_that_the_policy_forbids() {
    let server = Server::start().await;
    let _node = server.node("one").await;
    apply(&server, "shop", &shop()).await;
    let mut paths = pages(&server);
    paths.extend(["/apply".to_owned(), "/tokens".to_owned()]);
    for path in paths {
        let page = server.page(&path, ApiRole::Admin).await;
        assert!(page.all("style, [style], script:not([src])").is_empty(), "{path} has style or script in it");
        for element in page.all("*") {
            let bad = element.attributes().find(|(name, value)| {
                name.starts_with("on") || value.starts_with("javascript:") || value.starts_with("http")
            });
            assert_eq!(bad, None, "{path}: {}", element.name());
        }
        for asset in page.all("script[src], link[href]") {
            let name = asset.attribute("src").or(asset.attribute("href")).unwrap();
            let (status, _) = server.get(name, None).await;
            assert_eq!(status, 200, "{path}: {name}");
        }
        // Each field has a name for those who do not see it.
        for field in page.all("main input:not([type=hidden]), main select, main textarea") {
            let id = field.attribute("id").unwrap_or("none");
            let is_labelled = field.attribute("aria-label").is_some()
                || field.ancestors().any(|parent| parent.name() == "label")
                || !page.all(&format!("label[for='{id}']")).is_empty();
            assert!(is_labelled, "{path}: {:?}", field.attributes().collect::<Vec<_>>());
        }
        // Regions that are kept current have an id of their own.
        for region in page.all("[data-live]") {
            let id = region.attribute("id").unwrap();
            assert_eq!(page.all(&format!("#{id}")).len(), 1, "{path}: {id}");
        }
    }
}

#[tokio::test]
async fn a_task_tells_how_it_came_to_be_what_it_is() {
    let server = Server::start().await;
    let node = server.node("<script>node</script>").await;
    let service = server.service("web", 1).await;
    let task = server.running(service, 1).await.remove(0);
    let page = server.page(&format!("/tasks/{}", task.id), ApiRole::Viewer).await;
    assert_eq!(page.text("h1"), "Task web.1");
    assert_eq!(page.text("#head .state"), "Rrunning");
    assert!(page.text("#why").contains("<script>node</script>"), "{}", page.text("#why"));
    assert!(page.text("#spec").contains("example.org/app:1"));
    let told = page.text("#history");
    let places: Vec<_> = ["created", "assigned", "running"].iter().map(|word| told.find(word)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{told}");
    assert!(told.contains("on <script>node</script>") && told.contains("by agent"), "{told}");
    let logs = page.all("[data-logs]");
    assert_eq!(logs[0].attribute("data-logs"), Some(format!("/api/v1/tasks/{}/logs", task.id).as_str()));

    let error = "\"><img src=x onerror=alert(1)>".to_owned();
    let container = ContainerStatus { exit_code: Some(7), finished_at: Some(now()), ..ContainerStatus::default() };
    let failed = TaskStatus {
        state: TaskState::Failed,
        at: now(),
        error: error.clone(),
        container: Some(container),
        ..TaskStatus::default()
    };
    node.report(&task.id.to_string(), failed).await;
    server.until("the task to be replaced", |state| state.tasks_of_service(service).count() == 2).await;
    let page = server.page(&format!("/tasks/{}", task.id), ApiRole::Operator).await;
    assert_eq!((page.text("#what .bad"), page.text("#what dd.number")), (error.clone(), "7".to_owned()));
    assert!(page.text("#history").contains("failed"));
    assert!(page.all("main img, main script").is_empty());
    assert!(page.all("[data-terminal]").is_empty(), "there is no container to run it in");
    assert_eq!(page.all("#siblings tbody tr").len(), 1);
    let events = server.page("/events?kind=task", ApiRole::Viewer).await;
    assert!(events.text("#events").contains(&error) && events.all("main img").is_empty());
}

#[tokio::test]
async fn a_task_without_a_place_tells_why_and_what_would_help() {
    let server = Server::start().await;
    server.silent_node("asleep").await;
    let service = server.service("web", 1).await;
    server
        .until("the task to wait", |state| {
            state.tasks_of_service(service).any(|task| task.status.state == TaskState::Pending)
        })
        .await;
    let task = server.state().tasks_of_service(service).next().unwrap().id;
    let page = server.page(&format!("/tasks/{task}"), ApiRole::Viewer).await;
    let why = page.text("#why");
    assert!(why.contains("Why no node takes it") && !page.all("#why tbody tr").is_empty(), "{why}");
    let (status, _) = server.get("/tasks/0000000000000000000000000", Some(ApiRole::Viewer)).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_text_is_shown_at_its_place() {
    let server = Server::start().await;
    let text = "services:\n  web:\n    image: <b>x</b>\n    prots: ['80']\n";
    let form = [("stack", "shop"), ("text", text), ("what", "plan")];
    let (status, _, page) = server.send("/apply", ApiRole::Operator, &form).await;
    assert_eq!(status, 422);
    let place = page.all("#plan [data-apply-line='4']");
    assert_eq!(place[0].attribute("data-apply-column"), Some("5"));
    assert!(page.text("#plan .remarks").contains("services.web.prots"));
    assert_eq!(page.text("#plan mark"), "prots");
    assert!(page.all("main b").is_empty() && page.all("[data-apply-go]").is_empty());
    assert_eq!(page.one("textarea").text(), text, "the text stays in the form");
    assert!(server.state().services().next().is_none());
    let (status, ..) = server.send("/apply", ApiRole::Viewer, &form).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn what_is_applied_is_what_was_planned() {
    let server = Server::start().await;
    let first = shop();
    let (_, _, plan) = server.send("/apply", ApiRole::Operator, &[("stack", "shop"), ("text", &first)]).await;
    assert!(plan.text("#plan").contains("Apply: 4 created"), "{}", plan.text("#plan"));
    assert!(plan.text("#plan").contains("2 replicas have no place"), "{}", plan.text("#plan"));
    assert!(server.state().services().next().is_none(), "a plan does nothing");

    // Another text than the one that was planned.
    let (planned, expected) = (
        plan.one("[name=planned]").attribute("value").unwrap().to_owned(),
        plan.one("[name=expected]").attribute("value").unwrap().to_owned(),
    );
    let other = first.replace("web:1", "web:2");
    let mut form =
        [("stack", "shop"), ("text", &*other), ("planned", &planned), ("expected", &expected), ("what", "apply")];
    let (status, _, page) = server.send("/apply", ApiRole::Operator, &form).await;
    assert_eq!((status, server.state().services().count()), (200, 0));
    assert!(page.text("#plan .warn").contains("Nothing was applied"));
    form[1].1 = &first;
    let (status, to, _) = server.send("/apply", ApiRole::Operator, &form).await;
    assert_eq!((status, to.as_str()), (303, "/stacks/shop"));

    // A change is shown with its old and new value.
    let (_, _, plan) = server.send("/apply", ApiRole::Operator, &[("stack", "shop"), ("text", &other)]).await;
    assert_eq!((plan.text(".diff dt"), plan.text(".diff del")), ("image".into(), "example.org/web:1".into()));
    assert_eq!(plan.text(".diff ins"), "example.org/web:2");
    let (planned, expected) = (
        plan.one("[name=planned]").attribute("value").unwrap().to_owned(),
        plan.one("[name=expected]").attribute("value").unwrap().to_owned(),
    );
    // Somebody is faster.
    apply(&server, "shop", &first.replace("web:1", "web:3")).await;
    let form =
        [("stack", "shop"), ("text", &*other), ("planned", &planned), ("expected", &expected), ("what", "apply")];
    let (status, _, page) = server.send("/apply", ApiRole::Operator, &form).await;
    assert_eq!(status, 200);
    assert!(page.text("#plan .warn").contains("somebody has changed a service"));
    assert_eq!(page.text(".diff del"), "example.org/web:3");
    let image = server.state().service_by_name("shop_web").unwrap().spec.task.container.image.clone();
    assert_eq!(image, "example.org/web:3");

    // It was done under the name of the token.
    let events = server.page("/events?kind=service&actor=token+operator", ApiRole::Viewer).await;
    assert_eq!(events.all("#events tbody tr").len(), 2);
    assert!(events.text("#events").contains("image: example.org/web:1 -> example.org/web:3"));
    let none = server.page("/events?kind=service&actor=nobody", ApiRole::Viewer).await;
    assert!(none.all("#events tbody tr").is_empty());
}

#[tokio::test]
async fn what_the_text_no_longer_names_is_left_or_removed() {
    let server = Server::start().await;
    apply(&server, "shop", "services: {web: {image: a}, old: {image: b}}").await;
    let text = "services: {web: {image: a}}";
    let (_, _, plan) = server.send("/apply", ApiRole::Operator, &[("stack", "shop"), ("text", text)]).await;
    assert!(plan.text("#plan").contains("left: service shop_old"), "{}", plan.text("#plan"));
    assert!(plan.all("[data-apply-go]").is_empty(), "there is nothing to do");
    let form = [("stack", "shop"), ("text", text), ("prune", "yes")];
    let (_, _, plan) = server.send("/apply", ApiRole::Operator, &form).await;
    assert!(plan.text(".diff-remove").contains("shop_old") && plan.text("#plan").contains("1 removed"));
}

#[tokio::test]
async fn networks_volumes_files_and_images_tell_who_uses_them() {
    let server = Server::start().await;
    let _node = server.node("one").await;
    apply(&server, "shop", &shop()).await;
    let service = server.state().service_by_name("shop_web").unwrap().id;
    let tasks = server.running(service, 2).await;
    let network = server.state().network_by_name("shop_front").unwrap().id;
    let page = server.page(&format!("/networks/{network}"), ApiRole::Viewer).await;
    let service = server.state().service(service).unwrap().clone();
    let vip = service.endpoint.as_ref().unwrap().virtual_ips.iter().find(|vip| vip.network == network).unwrap().ip();
    let text = page.text("#network");
    assert!(text.contains(&vip.to_string()), "{text}");
    for task in tasks {
        let address = task.attachments.iter().find(|place| place.network == network).unwrap().addresses[0];
        assert!(text.contains(&address.to_string()), "{address} in {text}");
    }
    for path in ["/volumes", "/configs", "/images"] {
        let page = server.page(path, ApiRole::Viewer).await;
        assert!(page.text("main table").contains("shop_web"), "{path}: {}", page.text("main"));
    }
    let stack = server.page("/stacks/shop", ApiRole::Viewer).await;
    assert!(stack.text("#stack .head").contains("1 of 1 services as they should be"));
    let (status, ..) = server.send("/stacks/shop/remove", ApiRole::Viewer, &[]).await;
    assert_eq!(status, 403);
    let (status, to, _) = server.send("/stacks/shop/remove", ApiRole::Operator, &[]).await;
    assert_eq!((status, to.as_str()), (303, "/stacks"));
    let gone = |state: &berth_manager::store::State| {
        let files = state.config_by_name("shop_motd").is_none() && state.network_by_name("shop_front").is_none();
        files && state.service_by_name("shop_web").is_none()
    };
    server.until("the stack to be gone", gone).await;
    let (status, _) = server.get("/stacks/shop", Some(ApiRole::Viewer)).await;
    assert_eq!(status, 404, "its volume alone does not make it");
}

#[tokio::test]
async fn an_object_in_use_stays_and_the_page_says_why() {
    let server = Server::start().await;
    apply(&server, "shop", &shop()).await;
    let volume = server.state().volume_by_name("shop_data").unwrap().id;
    let (status, _, page) = server.send(&format!("/volumes/{volume}/remove"), ApiRole::Operator, &[]).await;
    assert_eq!(status, 409, "{}", page.text("main"));
    assert!(page.text("main .bad").contains("shop_data"), "{}", page.text("main"));
    assert!(server.state().volume_by_name("shop_data").is_some());
}

#[tokio::test]
async fn contents_of_secrets_are_on_no_page() {
    let server = Server::start().await;
    let content = "correct horse battery staple";
    let secret = berth_proto::pb::SecretSpec {
        name: "key".into(),
        data: content.as_bytes().to_vec().into(),
        ..Default::default()
    };
    let request = berth_proto::pb::SecretCreateRequest { spec: Some(secret) };
    use berth_proto::pb::control_server::Control;
    server.control.secret_create(tonic::Request::new(request)).await.unwrap();
    for path in ["/secrets", "/events"] {
        let (_, text) = server.get(path, Some(ApiRole::Admin)).await;
        assert!(text.contains("key") && !text.contains("horse") && !text.contains("28 B"), "{path}");
    }
}

#[tokio::test]
async fn configs_and_secrets_are_made_and_get_other_contents_on_their_pages() {
    let server = Server::start().await;
    let form = [("name", " motd "), ("data", "battery\r\nstaple\r\n"), ("template", "yes")];
    for path in ["/configs", "/secrets"] {
        assert_eq!(server.send(path, ApiRole::Viewer, &form).await.0, 403);
        let page = server.page(path, ApiRole::Viewer).await;
        assert!(page.all("form[method=post]:not([action='/logout'])").is_empty(), "a viewer can do nothing here");
        let (status, to, _) = server.send(path, ApiRole::Operator, &form).await;
        assert_eq!((status, to.as_str()), (303, path));
        let (status, _, page) = server.send(path, ApiRole::Operator, &form).await;
        assert_eq!(status, 409, "there is one of that name: {}", page.text("main"));
        let (status, _, page) = server.send(path, ApiRole::Operator, &[("name", "no name"), ("data", "x")]).await;
        assert_eq!(status, 422);
        assert!(page.text("main .bad").contains("name"), "{}", page.text("main"));
    }
    let large = "ü".repeat(500 << 10);
    let (status, ..) = server.send("/configs", ApiRole::Operator, &[("name", "large"), ("data", &large)]).await;
    assert_eq!(status, 303, "the largest one, three bytes of the form for each");
    let config = server.state().config_by_name("motd").unwrap().clone();
    assert_eq!(config.spec.data, "battery\nstaple\n", "lines end as they do in files");
    assert!(config.spec.template_driver.is_some());
    let secret = server.state().secret_by_name("motd").unwrap().clone();
    assert_eq!(secret.spec.data.0, "battery\nstaple\n");

    apply(
        &server,
        "shop",
        "services: {web: {image: a, configs: [motd], secrets: [motd]}}
configs: {motd: {external: true}}
secrets: {motd: {external: true}}",
    )
    .await;
    let shown = || server.state().service_by_name("shop_web").unwrap().spec_version;
    let other = |version: u64| [("version", version.to_string()), ("data", "horse".to_owned())];
    for (path, version) in [
        (format!("/configs/{}/content", config.id), config.meta.version),
        (format!("/secrets/{}/content", secret.id), secret.meta.version),
    ] {
        let send = async |role, version| {
            let form = other(version);
            let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
            server.send(&path, role, &form).await.0
        };
        assert_eq!(send(ApiRole::Viewer, version).await, 403);
        let before = shown();
        assert_eq!(send(ApiRole::Operator, version).await, 303);
        assert!(shown() > before, "the service that shows it is updated");
        assert_eq!(send(ApiRole::Operator, version).await, 412, "somebody else has written it meanwhile");
    }
    assert_eq!(server.state().config_by_name("motd").unwrap().spec.data, "horse");
    let secret = server.state().secret_by_name("motd").unwrap().clone();
    assert_eq!(secret.spec.data.0, "horse");
    assert!(secret.spec.template_driver.is_some(), "what it is besides its content stays");
    let (_, page) = server.get("/secrets", Some(ApiRole::Admin)).await;
    assert!(!page.contains("horse") && !page.contains("battery"));
}

#[tokio::test]
async fn a_token_is_shown_once_and_to_an_admin_alone() {
    let server = Server::start().await;
    for role in [ApiRole::Viewer, ApiRole::Operator] {
        assert_eq!(server.get("/tokens", Some(role)).await.0, 403);
        let (status, _, page) = server.send("/tokens", role, &[("name", "x"), ("role", "admin")]).await;
        assert_eq!(status, 403);
        assert!(!page.text("html").contains("berth_api_"));
        assert_eq!(server.send("/tokens/remove", role, &[("name", "admin")]).await.0, 403);
    }
    let form = [("name", "ci"), ("role", "operator"), ("expires", "30d")];
    let (status, _, page) = server.send("/tokens", ApiRole::Admin, &form).await;
    assert_eq!(status, 200);
    let token = page.one("#made").attribute("value").unwrap().to_owned();
    assert!(token.starts_with("berth_api_"), "{token}");
    let works = async || {
        let request = crate::support::client().get(server.url("/apply")).bearer_auth(&token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(works().await, 200);
    let (_, again) = server.get("/tokens", Some(ApiRole::Admin)).await;
    assert!(again.contains("ci") && !again.contains("berth_api_"), "it is shown once");
    let list = Page::parse(&again).text("#tokens");
    assert!(list.contains("ci operator") && list.contains("by token admin") || list.contains("token admin"), "{list}");

    // A name that is taken, and a time that is none: the form says so, and keeps what was typed.
    for (form, status, blamed) in [
        (form, 409, "ci"),
        ([("name", "other"), ("role", "viewer"), ("expires", "soon")], 400, "expires"),
        ([("name", "Not a name"), ("role", "viewer"), ("expires", "")], 422, "name"),
    ] {
        let (got, _, page) = server.send("/tokens", ApiRole::Admin, &form).await;
        assert_eq!(got, status);
        assert!(page.text("main .bad").contains(blamed), "{}", page.text("main"));
        assert_eq!(page.one("#name").attribute("value").unwrap().to_owned(), form[0].1);
        assert!(page.all("#made").is_empty());
    }
    assert_eq!(server.send("/tokens/remove", ApiRole::Admin, &[("name", "ci")]).await.0, 303);
    assert_eq!(works().await, 401);
    let events = server.page("/events?kind=cluster&actor=token+admin", ApiRole::Viewer).await;
    let told = events.text("#events");
    assert!(told.contains("token ci made, operator") && told.contains("token ci removed"), "{told}");
    assert!(!told.contains("berth_api_"));
}
