//! The dashboard in Chromium, of clusters with real containers: what an operator does with it, what is left of it when a manager is
//! lost, what a viewer is kept from, and that everybody can use it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use berth_tests::cluster::address;
use berth_tests::dashboard::{RUNNING, token};
use berth_tests::image::hello;
use berth_tests::{Browser, Cluster, Dashboard, wait_for};
use fantoccini::key::Key;
use serde_json::json;

/// Whatever of a page does something, but logging out.
const ACTING: &str = "form[method=post]:not([action='/logout']), [hx-post], [hx-put], [hx-delete], [data-terminal], \
                      a[href^='/apply'], a[href^='/tokens'], a[href$='/drain']";
/// What the service of these tests does: it writes.
const WRITES: &str = "while sleep 0.2; do echo tick needle; echo tock; done";

/// A service that takes three seconds to be restarted at most, and goes back by itself.
fn shop(command: &str, replicas: u32) -> String {
    format!(
        "services:
  web:
    image: berth/hello:1
    command: [sh, -c, '{command}']
    stop_grace_period: 1s
    deploy:
      replicas: {replicas}
      restart_policy: {{ delay: 0s }}
      update_config: {{ parallelism: 1, monitor: 1s, failure_action: rollback }}
      rollback_config: {{ parallelism: 0, monitor: 100ms }}
"
    )
}

/// One object of each kind, and a service that no node takes.
fn one_of_each(cluster: &Cluster) {
    let host = cluster.host(0);
    std::fs::write(host.dir().join("key"), "kumquat").unwrap();
    let yaml = format!(
        "services:
  web:
    image: berth/hello:1
    command: [sh, -c, '{WRITES}']
    stop_grace_period: 1s
    networks: [front]
    volumes: ['data:/data']
    configs: [page]
    secrets: [key]
    deploy: {{ replicas: 3 }}
  wishes:
    image: berth/hello:1
    deploy: {{ placement: {{ constraints: ['node.labels.disk == ssd'] }} }}
networks: {{ front: {{}} }}
volumes: {{ data: {{}} }}
configs: {{ page: {{ content: Hello }} }}
secrets: {{ key: {{ file: ./key }} }}
"
    );
    host.apply_output("shop", &yaml, &["--detach"]).ok();
    host.wait_running("shop_web", 3);
}

/// Marks the page that is open; the mark goes when it is loaded again.
fn mark(browser: &Browser) {
    browser.script("window.isStillThis = true", &[]);
}

#[track_caller]
fn assert_never_loaded_again(browser: &Browser) {
    let is_still_this = browser.script("return window.isStillThis", &[]);
    assert_eq!(is_still_this, json!(true), "the page stays current without a reload");
}

/// Types a Compose file on the apply page, looks at its plan, and applies it.
#[track_caller]
fn apply(browser: &Browser, dashboard: Dashboard<'_>, yaml: &str, planned: &[&str]) {
    dashboard.visit("/apply");
    browser.fill("#stack", "shop");
    browser.fill("#text", yaml);
    browser.click("#apply button[value=plan]");
    for text in planned {
        browser.wait_text("#plan .diff", text);
    }
    browser.click("[data-apply-go]");
    dashboard.wait_page("/stacks/shop");
}

#[test]
fn an_operator_applies_scales_drains_and_rolls_and_sees_it_as_it_happens() {
    let cluster = Cluster::with_http("wall", 3, 0);
    cluster.load(&[hello()]);
    let outside = cluster.outside();
    let browser = Browser::open(&outside);
    let dashboard = Dashboard::new(&browser, 1);
    dashboard.log_in(&token(&cluster, "operator"));
    // One window is the screen on the wall, which nobody touches.
    browser.wait_count(".node", 3);
    browser.wait_count(".tile", 0);
    mark(&browser);
    let wall = browser.window();
    let desk = browser.open_window();

    apply(&browser, dashboard, &shop(WRITES, 3), &["shop_web"]);
    browser.use_window(&wall);
    browser.wait_count(RUNNING, 3);
    browser.use_window(&desk);
    browser.click("main a[href^='/services/']");
    browser.wait_text("h1", "shop_web");
    let service = dashboard.path();
    mark(&browser);
    browser.wait_count(RUNNING, 3);
    browser.click("#more");
    browser.wait_count(RUNNING, 4);
    assert_never_loaded_again(&browser);
    browser.use_window(&wall);
    browser.wait_count(RUNNING, 4);
    browser.use_window(&desk);

    let drained = cluster.host(2).hostname();
    drain(&browser, dashboard, drained);
    wait_for("the tasks to move", || {
        let placed = cluster.placed(0, "shop_web");
        if placed.len() == 4 && !placed.iter().any(|host| host == drained) { Ok(()) } else { Err(placed) }
    });
    browser.use_window(&wall);
    browser.wait_count(&format!("[aria-label^='Node {drained}:'] {RUNNING}"), 0);
    browser.wait_count(RUNNING, 4);
    assert_never_loaded_again(&browser);
    browser.use_window(&desk);
    browser.click("#activate");
    browser.wait_text("#state", "active");

    apply(&browser, dashboard, &shop("exit 9", 4), &["exit 9"]);
    dashboard.visit(&service);
    browser.wait_text("#state", "rolled back");
    browser.wait_count(RUNNING, 4);
    read_logs(&browser, &service);
    use_terminal(&browser, dashboard);

    browser.click("form[action='/logout'] button");
    dashboard.wait_page("/login");
    dashboard.visit("/services");
    dashboard.wait_page("/login");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[track_caller]
fn drain(browser: &Browser, dashboard: Dashboard<'_>, hostname: &str) {
    dashboard.visit("/");
    browser.click(&format!(".node h3 a[title='{hostname}']"));
    browser.wait_text("h1", hostname);
    let node = dashboard.path();
    browser.click("#drain");
    dashboard.wait_page(&format!("{node}/drain"));
    browser.wait_text("#moves tr", "shop_web");
    let moves = browser.texts("#moves tbody tr");
    assert!(moves.iter().all(|row| row.contains(" to ") && !row.contains("nowhere")), "{moves:?}");
    browser.click("#confirm");
    dashboard.wait_page(&node);
    browser.wait_text("#state", "drained");
}

/// Finds a word in what the replicas write.
#[track_caller]
fn read_logs(browser: &Browser, service: &str) {
    const SHOWN: &str = "[data-log-lines] .log-line:not([hidden])";
    browser.click(&format!("a[href='{service}/logs']"));
    browser.wait_count("[data-log-is=live]", 1);
    browser.wait_text(SHOWN, "tock");
    browser.fill("[data-log-control=search]", "needle");
    browser.wait_text("[data-log-hits]", "match");
    browser.click("[data-log-control=only]");
    wait_for("only lines that match", || {
        let lines = browser.texts(SHOWN);
        if !lines.is_empty() && lines.iter().all(|line| line.contains("tick needle")) { Ok(()) } else { Err(lines) }
    });
    // Each replica has its switch.
    browser.wait_count("[data-log-names] label", 4);
}

/// Runs commands in a task by its terminal.
#[track_caller]
fn use_terminal(browser: &Browser, dashboard: Dashboard<'_>) {
    dashboard.visit("/");
    browser.click(RUNNING);
    browser.wait_text("h1", "Task shop_web");
    browser.wait_count("[data-log-is=live]", 1);
    browser.click(".terminal form button.main");
    browser.wait_count("[data-terminal-is=open]", 1);
    browser.write("echo $((6*7))-is-it\n");
    browser.wait_text(".xterm-rows", "42-is-it");
    browser.write("exit 3\n");
    browser.wait_text("[data-terminal-state]", "ended with exit code 3");
}

#[test]
fn a_page_whose_manager_is_lost_says_so_and_leads_to_another_that_shows_the_same() {
    let mut cluster = Cluster::with_http("lost", 3, 0);
    cluster.load(&[hello()]);
    cluster.host(0).apply("shop", &shop(WRITES, 3));
    let outside = cluster.outside();
    let browser = Browser::open(&outside);
    let operator = token(&cluster, "operator");
    // The one that leads: whoever takes over has to be elected first.
    let lost = cluster.leader(0);
    let next = (lost + 1) % 3;
    let (dashboard, other) = (Dashboard::new(&browser, lost), Dashboard::new(&browser, next));
    dashboard.log_in(&operator);
    browser.wait_count(RUNNING, 3);
    let stays = browser.window();
    mark(&browser);
    let goes = browser.open_window();
    dashboard.visit("/");
    browser.wait_count(RUNNING, 3);
    browser.wait_count("#lost[hidden]", 1);
    assert_eq!(browser.complaints(), [""; 0]);

    cluster.power_off(lost);
    browser.wait_count("#lost:not([hidden])", 1);
    browser.wait_text("#lost-since", "What is shown is from");
    let others: BTreeSet<String> = browser.attributes("#others a", "data-host").into_iter().collect();
    let wanted: BTreeSet<String> = (0..3).filter(|&at| at != lost).map(address).collect();
    assert_eq!(others, wanted);
    browser.click(&format!("#others a[data-host='{}']", address(next)));
    // The cookie is that host's; the token is the cluster's.
    other.wait_page("/login");
    other.enter(&operator);
    browser.wait_text(".node.down h3", cluster.host(lost).hostname());
    browser.wait_count(&format!(".node:not(.down) {RUNNING}"), 3);
    browser.click("[data-key=s]");
    browser.wait_text("h1", "Services");
    browser.click("main form button[name=by][value='1']");
    browser.wait_text("#services tbody tr", "4/4");
    let complaints = browser.complaints();
    let expected = |line: &&String| line.contains(&address(lost)) && line.contains("net::ERR_");
    let others: Vec<&String> = complaints.iter().filter(|line| !expected(line)).collect();
    assert!(others.is_empty(), "only the lost manager is complained of: {others:#?}");

    // The window that nobody touched is right again by itself.
    browser.use_window(&stays);
    browser.wait_count("#lost:not([hidden])", 1);
    cluster.power_on(lost);
    browser.wait_count("#lost[hidden]", 1);
    browser.wait_count(RUNNING, 4);
    browser.wait_count(".node.down", 0);
    assert_never_loaded_again(&browser);
    browser.use_window(&goes);
    browser.wait_text("#services tbody tr", "4/4");
}

#[test]
fn a_viewer_sees_nothing_that_acts_and_is_refused_who_tries_all_the_same() {
    let cluster = Cluster::with_http("viewer", 1, 0);
    cluster.load(&[hello()]);
    one_of_each(&cluster);
    let outside = cluster.outside();
    let browser = Browser::open(&outside);
    let dashboard = Dashboard::new(&browser, 0);
    dashboard.log_in(&token(&cluster, "operator"));
    let pages = dashboard.pages();
    let acting = |(_, path): &(&str, String)| {
        dashboard.visit(path);
        browser.count(ACTING)
    };
    let acting: usize = pages.iter().map(acting).sum();
    assert!(acting > pages.len(), "an operator sees what acts: {acting}");
    browser.click("form[action='/logout'] button");
    dashboard.wait_page("/login");

    dashboard.enter(&token(&cluster, "viewer"));
    let mut links = BTreeSet::new();
    for (word, path) in &pages {
        dashboard.visit(path);
        assert_eq!(browser.count("h1"), 1, "{word}");
        let found = browser.script(
            "return [...document.querySelectorAll(arguments[0])].map((element) => element.outerHTML)",
            &[json!(ACTING)],
        );
        assert_eq!(found, json!([]), "a viewer can do nothing on the page {word}");
        links.extend(browser.attributes("a[href^='/']", "href"));
    }
    assert!(links.len() > pages.len(), "{links:?}");
    let script = "
        const [paths, done] = arguments;
        (async () => {
            const refused = [];
            for (const path of paths) {
                const answer = await fetch(path);
                await answer.text();
                if (answer.status >= 400) refused.push([path, answer.status]);
            }
            return refused;
        })().then(done, (error) => done(String(error)));";
    assert_eq!(browser.later(script, &[json!(links)]), json!([]), "no link leads to what a viewer may not see");
    assert_eq!(browser.complaints(), [""; 0]);

    let (service, node) = (path_of(&pages, "service"), path_of(&pages, "node"));
    let task = path_of(&pages, "task");
    let tries = [
        (format!("{service}/scale"), "by=1"),
        (format!("{service}/remove"), ""),
        (format!("{node}/drain"), ""),
        ("/apply".to_owned(), "what=plan&text=services%3A"),
        ("/tokens".to_owned(), "name=mine&role=admin"),
        ("/stacks/shop/remove".to_owned(), ""),
    ];
    for (path, form) in &tries {
        let script = "
            const [path, form, done] = arguments;
            const body = new URLSearchParams(form);
            fetch(path, { method: 'POST', body }).then(({ status }) => done(status), (error) => done(String(error)));";
        assert_eq!(browser.later(script, &[json!(path), json!(form)]), json!(403), "{path}");
    }
    let script = "
        const [path, done] = arguments;
        const socket = new WebSocket(`wss://${location.host}/api/v1${path}/exec?command=true`);
        socket.addEventListener('open', () => done('open'));
        socket.addEventListener('error', () => done('refused'));";
    assert_eq!(browser.later(script, &[json!(task)]), json!("refused"));
    let complaints = browser.complaints();
    assert_eq!(complaints.iter().filter(|line| line.contains("403")).count(), tries.len() + 1, "{complaints:#?}");
    assert_eq!(cluster.host(0).service("shop_web")["replicas"]["desired"], 3, "nothing was done");
}

fn path_of<'a>(pages: &'a [(&str, String)], word: &str) -> &'a str {
    &pages.iter().find(|(name, _)| *name == word).unwrap().1
}

/// What each page is there for, as a selector.
const MAIN_ACTIONS: [(&str, &str); 18] = [
    ("cluster", ".tile"),
    ("node", "#drain"),
    ("drain", "#confirm"),
    ("services", "main form button[name=by][value='1']"),
    ("service", "#more"),
    ("logs", "[data-log-control=search]"),
    ("task", ".terminal form button.main"),
    ("stacks", "main a[href='/stacks/shop']"),
    ("stack", "main a[href^='/apply']"),
    ("networks", "main th a"),
    ("network", "main summary"),
    ("volumes", "main summary"),
    ("configs", "main summary"),
    ("secrets", "main summary"),
    ("images", "main td a"),
    ("events", "main form button"),
    ("apply", "#apply button[value=plan]"),
    ("tokens", "main form button.main"),
];

#[test]
fn everybody_can_use_every_page_light_or_dark_and_by_keyboard_alone() {
    let cluster = Cluster::with_http("axe", 1, 1);
    cluster.load(&[hello()]);
    one_of_each(&cluster);
    let outside = cluster.outside();
    let browser = Browser::open(&outside);
    let dashboard = Dashboard::new(&browser, 0);
    dashboard.visit("/");
    dashboard.wait_page("/login");
    let mut faults = look_for_faults(&browser, dashboard, "login");
    tab_to(&browser, "login", "form.login button");
    dashboard.enter(&token(&cluster, "admin"));
    use_keys(&browser, dashboard);

    let pages = [dashboard.pages(), dashboard.acting_pages()].concat();
    for (word, path) in &pages {
        dashboard.visit(path);
        let (_, action) = MAIN_ACTIONS.iter().find(|(name, _)| name == word).unwrap();
        tab_to(&browser, word, action);
        // What can be opened is looked at too.
        browser.script("document.querySelectorAll('details').forEach((one) => { one.open = true; })", &[]);
        faults.extend(look_for_faults(&browser, dashboard, word));
    }
    assert_eq!(pages.len(), MAIN_ACTIONS.len(), "each page was looked at");
    // Why a task waits.
    let waits = dashboard.link("/", ".tile.s-wait");
    dashboard.visit(&waits);
    browser.wait_text("#why-title", "Why no node takes it");
    faults.extend(look_for_faults(&browser, dashboard, "waiting task"));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(browser.complaints(), [""; 0]);
}

/// What axe-core finds on the page that is open, light and dark.
#[track_caller]
fn look_for_faults(browser: &Browser, dashboard: Dashboard<'_>, word: &str) -> Vec<String> {
    let mut all = Vec::new();
    for scheme in ["light", "dark"] {
        dashboard.prefer(scheme);
        all.extend(browser.axe().into_iter().map(|fault| format!("{word}, {scheme}: {fault}")));
    }
    all
}

/// Goes there by the tab key alone.
#[track_caller]
fn tab_to(browser: &Browser, word: &str, css: &str) {
    let reached = (0..200).any(|_| {
        let there = browser.is_focused(css);
        if !there {
            browser.press(Key::Tab);
        }
        there
    });
    assert!(reached, "the tab key leads to {css} on the page {word}");
}

/// Shortcuts, and the arrow keys among tiles.
#[track_caller]
fn use_keys(browser: &Browser, dashboard: Dashboard<'_>) {
    browser.wait_count(RUNNING, 3);
    browser.press('/');
    wait_for("the filter to have the focus", || if browser.is_focused("#filter") { Ok(()) } else { Err(()) });
    browser.press(Key::Escape);
    assert!(!browser.is_focused("#filter"));
    tab_to(browser, "cluster", ".tile");
    let focused = || browser.script("return document.activeElement.id", &[]);
    let first = focused();
    browser.press(Key::Right);
    assert!(browser.is_focused(".tile") && focused() != first, "an arrow key leads to the next tile");
    browser.press(Key::Left);
    assert_eq!(focused(), first, "and back");
    assert_eq!(browser.count(".tile[tabindex='0']"), 1, "all tiles are one stop of the tab key");
    browser.press(Key::Enter);
    browser.wait_text("h1", "Task shop_");
    browser.wait_count("[data-log-is=connecting]", 0);
    browser.press('?');
    browser.wait_count("#help[open]", 1);
    browser.press(Key::Escape);
    browser.wait_count("#help[open]", 0);
    browser.write("gs");
    dashboard.wait_page("/services");
}
