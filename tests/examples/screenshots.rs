//! Makes the pictures in `deploy/screenshots/`: each page of the dashboard of a small cluster with real containers, light and dark,
//! on a desk and on a phone.
//!
//! `cargo build -p berth && cargo run -p berth-tests --example screenshots`, as root. Smaller with Debian's pngquant.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use berth_tests::dashboard::{RUNNING, token};
use berth_tests::image::{hello, repository};
use berth_tests::{Browser, Cluster, Dashboard, Output};

/// Screens: a word, width, height, whether it is a phone's.
const SCREENS: [(&str, u32, u32, bool); 2] = [("desktop", 1440, 900, false), ("phone", 390, 844, true)];

/// Stacks with what people run, as far as one image can play it.
const STACKS: [(&str, &str); 3] = [
    (
        "shop",
        "services:
  web:
    image: berth/hello:1
    command: [sh, -c, 'serve & while sleep 1; do echo GET / 200; echo GET /basket 200; echo slow answer >&2; done']
    environment: { GREETING: Welcome }
    ports: ['8080:80']
    networks: [front]
    configs: [page]
    stop_grace_period: 1s
    deploy:
      replicas: 6
      resources: { reservations: { cpus: '0.05', memory: 32M } }
      placement: { preferences: [{ spread: node.labels.host }] }
      update_config: { parallelism: 2, order: start-first, monitor: 1s }
  api:
    image: berth/hello:1
    networks: [front, back]
    secrets: [key]
    stop_grace_period: 1s
    deploy: { replicas: 4, resources: { reservations: { cpus: '0.05', memory: 64M } } }
  cache:
    image: berth/hello:1
    networks: [back]
    volumes: ['cache:/data']
    stop_grace_period: 1s
    deploy: { replicas: 1, resources: { reservations: { memory: 128M } } }
networks: { front: {}, back: { driver_opts: { encrypted: '' } } }
volumes: { cache: {} }
configs: { page: { content: Welcome } }
secrets: { key: { external: true } }
",
    ),
    (
        "watch",
        "services:
  agent: { image: berth/hello:1, stop_grace_period: 1s, deploy: { mode: global } }
  board: { image: berth/hello:1, stop_grace_period: 1s, deploy: { replicas: 2 } }
",
    ),
    (
        "batch",
        "services:
  report: { image: berth/hello:1, command: [sh, -c, 'echo made'], deploy: { mode: replicated-job, replicas: 3 } }
  broken:
    image: berth/hello:1
    command: [sh, -c, 'echo cannot read the map >&2; exit 3']
    deploy: { restart_policy: { condition: on-failure, delay: 1s, max_attempts: 1 } }
  training:
    image: berth/hello:1
    deploy: { placement: { constraints: ['node.labels.gpu == yes'] } }
",
    ),
];

fn main() {
    let cluster = Cluster::with_http("quay", 3, 2);
    cluster.load(&[hello()]);
    let host = cluster.host(0);
    host.berth_with_input(&["secret", "create", "key", "-"], b"kumquat").ok();
    for (stack, yaml) in STACKS {
        host.apply_output(stack, yaml, &["--detach"]).ok();
    }
    for (service, tasks) in
        [("shop_web", 6), ("shop_api", 4), ("shop_cache", 1), ("watch_agent", 5), ("watch_board", 2)]
    {
        host.wait_running(service, tasks);
    }
    let outside = cluster.outside();
    let browser = Browser::open(&outside);
    let dashboard = Dashboard::new(&browser, 0);
    let to = repository().join("deploy/screenshots");
    fs::create_dir_all(&to).unwrap();
    dashboard.visit("/");
    dashboard.wait_page("/login");
    show(&browser, dashboard, &to, "login");
    dashboard.enter(&token(&cluster, "admin"));
    browser.wait_count(RUNNING, 18);
    let pages = [dashboard.pages(), dashboard.acting_pages()].concat();
    for (word, path) in &pages {
        dashboard.visit(path);
        match *word {
            "apply" => plan(&browser),
            "logs" | "task" => browser.wait_count("[data-log-is=live]", 1),
            _ => {}
        }
        show(&browser, dashboard, &to, word);
    }
    let waits = dashboard.link("/", ".tile.s-wait");
    dashboard.visit(&waits);
    show(&browser, dashboard, &to, "waiting");
    assert!(browser.complaints().is_empty(), "the console has errors");
}

/// A plan with all that a plan can say.
fn plan(browser: &Browser) {
    let (_, yaml) = STACKS[0];
    browser.fill("#stack", "shop");
    browser.fill("#text", &yaml.replace("Welcome }", "Good evening }").replace("replicas: 4", "replicas: 5"));
    browser.click("#apply button[value=plan]");
    browser.wait_text("#plan .diff", "shop_web");
    browser.script("document.getElementById('plan').scrollIntoView()", &[]);
}

/// Makes the four pictures of the page that is open.
fn show(browser: &Browser, dashboard: Dashboard<'_>, to: &Path, word: &str) {
    for (screen, width, height, is_phone) in SCREENS {
        browser.resize(width, height, is_phone);
        for scheme in ["light", "dark"] {
            dashboard.prefer(scheme);
            let path = to.join(format!("{word}-{screen}-{scheme}.png"));
            fs::write(&path, browser.screenshot()).unwrap();
            shrink(&path);
        }
    }
    let (_, width, height, is_phone) = SCREENS[0];
    browser.resize(width, height, is_phone);
}

/// A palette of 256 colours is enough for these pages.
fn shrink(picture: &Path) {
    if Path::new("/usr/bin/pngquant").exists() {
        Output::of(Command::new("/usr/bin/pngquant").args(["--force", "--ext", ".png", "256"]).arg(picture), None).ok();
    }
}
