//! `/metrics` of a manager: who may see it, right numbers, and no more series than there are things.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use crate::support::{Server, eventually};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::ApiRole;
use tonic::Request;

/// A scrape, as Prometheus' own text format.
async fn scrape(server: &Server) -> String {
    let (status, text) = server.get("/metrics", Some(ApiRole::Viewer)).await;
    assert_eq!(status, 200, "{text}");
    text
}

/// Names and labels of all series.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// Waits until a scrape has all these lines.
async fn shows(server: &Server, wanted: &[&str]) -> String {
    eventually("lines of a scrape", async || {
        let text = scrape(server).await;
        let missing: Vec<&str> =
            wanted.iter().copied().filter(|wanted| !text.lines().any(|line| line == *wanted)).collect();
        if missing.is_empty() { Ok(text) } else { Err((missing, text)) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_see_metrics_in_the_format_that_they_ask_for_and_others_do_not() {
    let server = Server::start().await;
    let (status, _) = server.get("/metrics", None).await;
    assert_eq!(status, 401);
    for role in [ApiRole::Viewer, ApiRole::Operator, ApiRole::Admin] {
        assert_eq!(server.get("/metrics", Some(role)).await.0, 200, "{role}");
    }
    for (accept, kind, is_open) in [
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text", true),
        ("text/plain", "text/plain", false),
    ] {
        let request = server.ask(reqwest::Method::GET, "/metrics", Some(ApiRole::Viewer)).await;
        let answer = request.header("accept", accept).send().await.unwrap();
        let said = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let text = answer.text().await.unwrap();
        assert!(said.starts_with(kind), "{said}");
        assert_eq!(text.ends_with("# EOF\n"), is_open, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_says_what_there_is_and_what_happened() {
    let server = Server::start().await;
    let _agent = server.node("worker").await;
    let service = server.service("web", 3).await;
    server.running(service, 3).await;
    let wrong = server.ask(reqwest::Method::GET, "/metrics", None).await.bearer_auth("berth_api_wrong").send().await;
    assert_eq!(wrong.unwrap().status(), 401);
    let text = shows(
        &server,
        &[
            "berth_raft_is_leader 1",
            "berth_raft_has_leader 1",
            "berth_raft_voters 1",
            "berth_raft_voters_reachable 1",
            r#"berth_objects{kind="service"} 1"#,
            r#"berth_objects{kind="node"} 2"#,
            r#"berth_tasks{state="running"} 3"#,
            r#"berth_tasks{state="pending"} 0"#,
            r#"berth_services{update="none"} 1"#,
            r#"berth_nodes{state="ready",role="worker",availability="active"} 1"#,
            r#"berth_service_replicas_running{service="web",stack=""} 3"#,
            r#"berth_service_replicas_desired{service="web",stack=""} 3"#,
            r#"berth_service_task_failures_total{service="web",stack=""} 0"#,
            "berth_scheduler_placements_total 3",
            "berth_dispatcher_sessions 1",
            r#"berth_task_transitions_total{state="running"} 3"#,
            "berth_task_startup_seconds_count 3",
            r#"berth_http_login_failures_total{reason="wrong_token"} 1"#,
            r#"berth_http_requests_total{route="/metrics",method="GET",status="4xx"} 1"#,
        ],
    )
    .await;
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{text}"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!(value("berth_store_index"), value("berth_raft_applied_index"));
    assert!(value("berth_raft_log_size_bytes") > 0.0 && value("berth_raft_commit_seconds_count") > 0.0, "{text}");
    assert!(value("berth_loops_passes_total") > 0.0, "{text}");
    assert!(text.contains(r#"berth_node_capacity_cores{node_id=""#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_find_no_node_are_shown_by_reason_and_not_when_they_have_one() {
    let server = Server::start().await;
    let service = server.service("web", 2).await;
    // The manager's own node has no agent here.
    shows(&server, &[r#"berth_tasks{state="pending"} 2"#]).await;
    eventually("a reason", async || {
        let text = scrape(&server).await;
        let lines = text.lines().filter(|line| line.starts_with("berth_scheduler_pending_tasks{"));
        let waiting: u64 = lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
        if waiting == 2 { Ok(()) } else { Err(text) }
    })
    .await;
    let _agent = server.node("worker").await;
    server.running(service, 2).await;
    eventually("nothing to wait", async || {
        let text = scrape(&server).await;
        let lines = text.lines().filter(|line| line.starts_with("berth_scheduler_pending_tasks{"));
        if lines.clone().all(|line| line.ends_with(" 0")) { Ok(()) } else { Err(lines.collect::<String>()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_come_and_go_and_leave_no_series() {
    let server = Server::start().await;
    let _agent = server.node("worker").await;
    let come_and_go = async |name: &str, count: usize| {
        let service = server.service(name, count as u64).await;
        server.running(service, count).await;
        let during = series(&shows(&server, &[&format!("berth_tasks{{state=\"running\"}} {count}")]).await);
        let remove = pb::ServiceRemoveRequest { ids: vec![service.to_string()], version: 0 };
        server.control.service_remove(Request::new(remove)).await.unwrap();
        server.until("the service to be gone", |state| state.service(service).is_none()).await;
        let after = shows(&server, &[r#"berth_objects{kind="service"} 0"#, r#"berth_objects{kind="task"} 0"#]).await;
        (during, series(&after))
    };
    // From the second scrape on it counts the first.
    scrape(&server).await;
    let (few, first) = come_and_go("few", 1).await;
    let (many, second) = come_and_go("many", 1_000).await;
    assert_eq!(first, second, "nothing is left of a thousand tasks that is not left of one");
    let unnamed = |series: &BTreeSet<String>, name: &str| -> BTreeSet<String> {
        series.iter().map(|one| one.replace(&format!("service=\"{name}\""), "service=\"\"")).collect()
    };
    assert_eq!(unnamed(&few, "few"), unnamed(&many, "many"), "a thousand tasks have as many series as one");
}
