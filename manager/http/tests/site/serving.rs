//! What is served to whom in the clear: limits, silences, ends, and what nobody can say of himself.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use crate::support::{PATIENCE, Server, client, eventually};
use axum::Extension;
use axum::extract::State;
use axum::http::Method;
use berth_http::access::Caller;
use berth_http::problem::Problem;
use berth_http::routes::{Needs, Routes};
use berth_http::serve::Limits;
use berth_http::{Site, routes};
use berth_manager::api::Actor;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::ApiRole;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is served anyway, and `/api/v1/me` and `/api/v1/make` for viewers and operators.
fn with_more() -> Routes {
    let me = |Extension(caller): Extension<Arc<Caller>>| async move { format!("{} {}", caller.name, caller.role) };
    routes::all().add(Method::GET, "/api/v1/me", Needs::Role(ApiRole::Viewer), me).add(
        Method::POST,
        "/api/v1/make",
        Needs::Role(ApiRole::Operator),
        make,
    )
}

async fn make(State(site): State<Site>, Extension(actor): Extension<Actor>) -> Result<&'static str, Problem> {
    let spec = pb::NetworkSpec { name: "made".to_owned(), ..pb::NetworkSpec::default() };
    let mut request = tonic::Request::new(pb::NetworkCreateRequest { spec: Some(spec) });
    request.extensions_mut().insert(actor);
    site.control.network_create(request).await?;
    Ok("made")
}

async fn me(server: &Server, header: (&str, &str)) -> (u16, String) {
    let answer = client().get(server.url("/api/v1/me")).header(header.0, header.1).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// What comes until the other side closes; the test fails when it never does.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    // A connection that was reset is closed too.
    drop(end.expect("the connection to be closed"));
    String::from_utf8_lossy(&all).into_owned()
}

/// The status line of an answer on a connection that stays open.
async fn asked(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let length = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_to_everybody() {
    let server = Server::start().await;
    assert_eq!(server.get("/healthz", None).await, (200, "ok\n".to_owned()));
    assert_eq!(server.get("/readyz", None).await, (200, "ready\n".to_owned()));
    assert_eq!(server.get("/nothing", Some(ApiRole::Admin)).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_for_tests_runs_what_it_is_given() {
    let server = Server::start().await;
    let _one = server.node("one").await;
    let service = server.service("web", 3).await;
    assert_eq!(server.running(service, 3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_recorded_under_the_tokens_name() {
    let server = Server::start_as(with_more(), Limits::default()).await;
    let (_, mut commits) = server.handle.hub.subscribe();
    let token = server.make_token("deployer", ApiRole::Operator, None).await;
    let viewer = server.ask(Method::POST, "/api/v1/make", Some(ApiRole::Viewer)).await.send().await.unwrap();
    assert_eq!(viewer.status(), 403);
    assert!(server.state().networks().all(|network| network.spec.name.as_str() != "made"));
    let made = client().post(server.url("/api/v1/make")).bearer_auth(token).header("x-actor", "somebody else");
    assert_eq!(made.send().await.unwrap().status(), 200);
    let author = tokio::time::timeout(PATIENCE, async {
        loop {
            let commit = commits.next().await.unwrap();
            let mut made = commit.authored().filter(|(event, _)| event.before().is_none());
            let ours = made.find(|(event, _)| format!("{:?}", event.object()).contains("\"made\""));
            if let Some((_, author)) = ours {
                break author.actor.to_string();
            }
        }
    });
    assert_eq!(author.await.expect("the change"), "token deployer");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_good_token_in_its_place_lets_anybody_in() {
    let server = Server::start_as(with_more(), Limits::default()).await;
    let good = server.make_token("ci", ApiRole::Viewer, None).await;
    let expired = server.make_token("old", ApiRole::Admin, Some(Duration::from_secs(1))).await;
    assert_eq!(me(&server, ("authorization", &format!("Bearer {good}"))).await, (200, "ci viewer".to_owned()));
    let bearer = format!("Bearer {expired}");
    let end = async {
        loop {
            let answer = me(&server, ("authorization", &bearer)).await;
            if answer.0 != 200 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(60), end).await.expect("it is good for a second");
    assert!(refused.0 == 401 && refused.1.contains("not valid") && !refused.1.contains(&expired), "{refused:?}");
    // In addresses tokens would end in logs and histories.
    for place in ["token", "access_token", "berth_token", "authorization"] {
        let (status, _) = server.get(&format!("/api/v1/me?{place}={good}"), None).await;
        assert_eq!(status, 401, "{place}");
    }
    // What proxies say of clients is nobody's word here.
    let certificate = "MIIB".to_owned();
    for header in ["client-cert", "x-client-cert", "x-ssl-client-cert", "x-forwarded-client-cert", "clientcertificate"]
    {
        assert_eq!(me(&server, (header, &certificate)).await.0, 401, "{header}");
    }
    for header in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        assert_eq!(me(&server, (header, "127.0.0.1")).await.0, 401, "{header}");
    }
    let remove = pb::TokenRemoveRequest { names: vec!["ci".to_owned()] };
    server.control.token_remove(tonic::Request::new(remove)).await.unwrap();
    assert_eq!(me(&server, ("authorization", &format!("Bearer {good}"))).await.0, 401, "it was taken away");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_too_many_tokens_has_to_wait_and_nobody_else() {
    let server = Server::start_as(with_more(), Limits::default()).await;
    let good = format!("Bearer {}", server.make_token("ci", ApiRole::Viewer, None).await);
    for number in 0..10 {
        assert_eq!(me(&server, ("authorization", &format!("Bearer berth_api_{number}"))).await.0, 401);
    }
    assert_eq!(me(&server, ("authorization", "Bearer berth_api_x")).await.0, 429);
    assert_eq!(me(&server, ("authorization", &good)).await.0, 429, "guessing does not go on by luck");
    assert_eq!(server.get("/healthz", None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_leaves_a_cookie_that_lets_in() {
    let server = Server::start_as(with_more(), Limits::default()).await;
    let token = server.make_token("ann", ApiRole::Viewer, None).await;
    let login = |token: String| {
        let request = client().post(server.url("/login")).header("origin", server.url(""));
        request.header("content-type", "application/x-www-form-urlencoded").body(format!("token={token}"))
    };
    let wrong = login("berth_api_wrong".to_owned()).send().await.unwrap();
    assert!(wrong.status() == 303 && wrong.headers().get("set-cookie").is_none(), "{wrong:?}");
    let right = login(token.clone()).send().await.unwrap();
    let cookie = right.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("Secure"),
        "{cookie}"
    );
    let shown = cookie.split(';').next().unwrap();
    assert_eq!(me(&server, ("cookie", shown)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_to_an_end_is_given_up() {
    let limits = Limits { head: Duration::from_millis(300), ..Limits::default() };
    let server = Server::start_as(with_more(), limits).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ").await.unwrap();
    // One that has had an answer is not let be slow either.
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(asked(&mut second).await, "HTTP/1.1 200 OK");
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost").await.unwrap();
    for stream in [&mut silent, &mut slow, &mut second] {
        let said = until_closed(stream).await;
        assert!(!said.contains("200 OK"), "{said}");
    }
    assert_eq!(server.get("/healthz", None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_bounds_is_refused() {
    let server = Server::start_as(with_more(), Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut sent = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await;
    for number in 0..4000 {
        sent = stream.write_all(format!("X-{number}: {}\r\n", "a".repeat(100)).as_bytes()).await;
        if sent.is_err() {
            break;
        }
    }
    let said = until_closed(&mut stream).await;
    assert!(sent.is_err() || said.contains(" 431 "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait_and_those_of_one_address_are_closed() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let server = Server::start_as(with_more(), limits).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(asked(&mut stream).await, "HTTP/1.1 200 OK");
        open.push(stream);
    }
    // The system has taken it; nobody answers before one of the others has gone.
    let mut third = TcpStream::connect(server.address).await.unwrap();
    third.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    for stream in &mut open {
        assert_eq!(asked(stream).await, "HTTP/1.1 200 OK");
    }
    let mut answer = [0; 1];
    let waits = third.try_read(&mut answer);
    assert!(waits.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it is not answered yet");
    open.pop();
    let answered = tokio::time::timeout(PATIENCE, third.read(&mut answer)).await.expect("a place").unwrap();
    assert_eq!(answered, 1);

    let server = Server::start_as(with_more(), Limits { by_address: 1, ..Limits::default() }).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(asked(&mut first).await, "HTTP/1.1 200 OK");
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(until_closed(&mut second).await, "");
    assert_eq!(asked(&mut first).await, "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_under_way_come_to_their_end_and_then_the_port_is_free() {
    let (begun, mut begins) = tokio::sync::mpsc::channel(1);
    let (go, may) = tokio::sync::watch::channel(false);
    let slow = move || {
        let (begun, mut may) = (begun.clone(), may.clone());
        async move {
            begun.send(()).await.unwrap();
            may.wait_for(|may| *may).await.unwrap();
            "done"
        }
    };
    // Ends only when it is told to.
    let endless = |State(site): State<Site>| async move {
        site.stop.cancelled().await;
        "told"
    };
    let routes = routes::all().add(Method::GET, "/slow", Needs::Nothing, slow);
    let routes = routes.add(Method::GET, "/endless", Needs::Nothing, endless);
    let server = Server::start_as(routes, Limits::default()).await;
    let get = |path: &str| tokio::spawn(client().get(server.url(path)).send());
    let (slow, endless) = (get("/slow"), get("/endless"));
    begins.recv().await.unwrap();
    let address = server.address;
    server.site.stop.cancel();
    eventually("the port to be closed", async || match TcpStream::connect(address).await {
        Ok(_) => Err("still open"),
        Err(_) => Ok(()),
    })
    .await;
    go.send_replace(true);
    assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "done");
    if let Ok(answer) = endless.await.unwrap() {
        assert_eq!(answer.text().await.unwrap(), "told");
    }
    tokio::net::TcpListener::bind(address).await.expect("another may have the port");
}
