//! Real software from one Compose file: nginx, redis and postgresql with volumes, health checks, limits, dependencies and
//! a published port. Data outlives updates, `kill -9` of the daemon and a restart of everything.
#![allow(clippy::unwrap_used)]

use berth_tests::image::debian;
use berth_tests::{Host, Output, wait_for, wait_until};
use serde_json::Value;

const STACK: &str = r#"
name: shop
services:
  web:
    image: berth-test/nginx:1
    ports: ["8080:80"]
    volumes: ["pages:/usr/share/nginx/html"]
    depends_on:
      db: { condition: service_healthy }
      cache: { condition: service_healthy }
      seed: { condition: service_completed_successfully }
    healthcheck: { test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"], interval: 2s, start_period: 5s, start_interval: 200ms }
    deploy: { replicas: 2, resources: { limits: { cpus: "0.5", memory: 64M } }, update_config: { monitor: 200ms } }
  cache:
    image: berth-test/redis:1
    volumes: ["cache:/data"]
    healthcheck: { test: ["CMD", "redis-cli", "ping"], interval: 2s, start_period: 10s, start_interval: 200ms }
    deploy: { resources: { limits: { memory: 64M } }, update_config: { monitor: 200ms } }
  db:
    image: berth-test/postgres:1
    environment: { POSTGRES_PASSWORD: secret, REVISION: "${REVISION:-1}" }
    volumes: ["db:/var/lib/postgresql/data"]
    shm_size: 128m
    healthcheck: { test: "psql -h /tmp -U postgres -c 'select 1'", interval: 2s, retries: 10, start_period: 60s, start_interval: 300ms }
    stop_grace_period: 20s
    deploy: { resources: { limits: { memory: 512M } }, update_config: { monitor: 200ms } }
  seed:
    image: berth-test/redis:1
    command: ["redis-cli", "-h", "cache", "set", "seeded", "yes"]
    depends_on: { cache: { condition: service_healthy } }
    deploy: { mode: replicated-job, replicas: 1 }
volumes: { pages: {}, cache: {}, db: {} }
"#;

fn exec(host: &Host, service: &str, command: &[&str]) -> Output {
    host.berth(&[&["exec", service], command].concat())
}

fn query(host: &Host, sql: &str) -> Output {
    exec(host, "shop_db", &["psql", "-h", "/tmp", "-U", "postgres", "-At", "-c", sql])
}

fn assert_data(host: &Host) {
    assert_eq!(query(host, "select note from orders").ok(), "first\n");
    assert_eq!(exec(host, "shop_cache", &["redis-cli", "get", "cart"]).ok(), "three apples\n");
    let page = host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/hi.html"]).ok();
    assert_eq!(page, "hi\n");
}

fn wait_up(host: &Host) -> Vec<Value> {
    host.wait_running("shop_web", 2);
    host.wait_running("shop_cache", 1);
    host.wait_running("shop_db", 1)
}

#[test]
fn a_stack_of_real_software_keeps_its_data_whatever_happens() {
    let mut host = Host::start("software");
    for image in ["nginx", "redis", "postgres"] {
        host.load(&debian(image));
    }
    host.apply("shop", STACK);
    wait_up(&host);
    assert_eq!(exec(&host, "shop_cache", &["redis-cli", "get", "seeded"]).ok(), "yes\n", "the job ran before web");
    let page = host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/"]).ok();
    assert_eq!(page, "nginx in Berth\n", "a new volume has the image's files");

    query(&host, "create table orders (note text)").ok();
    query(&host, "insert into orders values ('first')").ok();
    exec(&host, "shop_cache", &["redis-cli", "set", "cart", "three apples"]).ok();
    exec(&host, "shop_web", &["sh", "-c", "echo hi > /usr/share/nginx/html/hi.html"]).ok();
    assert_data(&host);

    // Services find each other by name.
    let found = exec(&host, "shop_web", &["wget", "-q", "-O", "-", "http://web/hi.html"]).ok();
    assert_eq!(found, "hi\n");

    // An update replaces the database's task; its volume stays.
    let before = wait_up(&host).remove(0);
    host.apply("shop", &STACK.replace("${REVISION:-1}", "2"));
    let after = wait_up(&host).remove(0);
    assert_ne!(before["id"], after["id"]);
    assert_data(&host);

    // The daemon is killed: nothing stops.
    host.kill_daemon();
    assert_eq!(host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/hi.html"]).ok(), "hi\n");
    host.start_daemon();
    assert_eq!(wait_up(&host).remove(0)["id"], after["id"]);
    assert_data(&host);

    // Everything is restarted: each process dies with the daemon, as when a machine loses power.
    let pids: Vec<String> = ["shop_web", "shop_cache", "shop_db"]
        .iter()
        .flat_map(|service| host.tasks(service))
        .filter(|task| task["state"] == "running")
        .map(|task| host.pid(&task).to_string())
        .collect();
    host.kill_daemon();
    for pid in &pids {
        host.run("kill", &["-9", pid]);
    }
    host.start_daemon();
    wait_until(
        "a new database task",
        || host.tasks("shop_db"),
        |tasks| tasks.iter().any(|task| task["state"] == "running" && task["id"] != after["id"]),
    );
    wait_up(&host);
    wait_for("the pages to answer", || {
        let page = host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/hi.html"]);
        if page.code == 0 { Ok(()) } else { Err(page) }
    });
    assert_data(&host);
    host.remove_everything();
}
