//! A real browser on a cluster's wire: Debian's Chromium, driven over W3C WebDriver by its own driver.
//!
//! All of it runs in a process namespace that ends with its first process, so nothing of it stays. Of a test that failed a picture
//! of what was shown is kept.

use std::fs::{self, File};
use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::image::{repository, run_dir};
use crate::wait::PATIENCE;
use crate::{Output, Outside, wait_for};

const CHROMIUM: &str = "/usr/bin/chromium";
const DRIVER: &str = "/usr/bin/chromedriver";

/// Finds what keeps people from using a page, of the two worse kinds, each as a line.
const RUN_AXE: &str = "
    const done = arguments[arguments.length - 1];
    const line = ({ impact, id, help, nodes }) =>
        `${impact} ${id}: ${help}: ${nodes.map((node) => node.target.join(' ')).join(', ')}`;
    axe.run(document, { resultTypes: ['violations'], preload: false }).then(
        ({ violations }) => done(violations.filter(({ impact }) => ['serious', 'critical'].includes(impact)).map(line)),
        (error) => done([`axe: ${error}`]),
    );";

/// Such a browser. Dropping it ends it.
pub struct Browser {
    client: Client,
    runtime: Runtime,
    driver: Child,
    /// Its profile, and what the driver said.
    home: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// One at a time in each test program: beside a cluster on the same two processors, a second one makes both too slow to be used.
static TURN: Mutex<()> = Mutex::new(());

impl Browser {
    /// Opens one on this machine, which trusts whoever the machines on the wire say they are: the cluster's authority is its own.
    ///
    /// # Panics
    /// When Chromium or its driver is missing or does not start.
    #[track_caller]
    pub fn open(outside: &Outside) -> Self {
        for program in [CHROMIUM, DRIVER] {
            let is_there = Path::new(program).exists();
            assert!(is_there, "{program} is missing: apt-get install chromium chromium-driver, or use tests/run.sh");
        }
        // A test that has failed leaves nothing behind.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let home = tempfile::tempdir().expect("a directory for the browser");
        let mut driver = start(outside, home.path());
        let port = port(&mut driver, home.path());
        let runtime = runtime(outside.namespace());
        let client = runtime.block_on(async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities(home.path()));
            tokio::time::timeout(PATIENCE, builder.connect(&format!("http://127.0.0.1:{port}/"))).await
        });
        let client = match client {
            Ok(Ok(client)) => client,
            other => {
                let _ = driver.kill();
                panic!("Chromium does not start: {other:?}: {}", said(home.path()))
            }
        };
        Self { client, runtime, driver, home, _turn: turn }
    }

    /// Goes to an address; returns when the page is there and its scripts have run.
    ///
    /// # Panics
    /// When it cannot be shown.
    #[track_caller]
    pub fn goto(&self, url: &str) {
        self.must(&format!("go to {url}"), self.client.goto(url));
    }

    /// The address that is open, as `https://host:port/path`.
    ///
    /// # Panics
    /// When the browser does not say.
    #[track_caller]
    pub fn url(&self) -> String {
        self.must("tell the address", self.client.current_url()).to_string()
    }

    /// What a script returns that runs in the page.
    ///
    /// # Panics
    /// When it throws.
    #[track_caller]
    pub fn script(&self, script: &str, args: &[Value]) -> Value {
        self.must(&format!("run {script}"), self.client.execute(script, args.to_vec()))
    }

    /// The same; an error is what a page gives that is just being left.
    pub fn try_script(&self, script: &str, args: &[Value]) -> Result<Value, String> {
        self.ask(self.client.execute(script, args.to_vec()))
    }

    /// What a script hands to its last argument.
    ///
    /// # Panics
    /// When it throws or hands over nothing.
    #[track_caller]
    pub fn later(&self, script: &str, args: &[Value]) -> Value {
        self.must(&format!("run {script}"), self.client.execute_async(script, args.to_vec()))
    }

    /// How many elements a selector finds; 0 while no page is there.
    pub fn count(&self, css: &str) -> usize {
        let found = self.try_script("return document.querySelectorAll(arguments[0]).length", &[json!(css)]);
        found.ok().and_then(|number| number.as_u64()).map_or(0, |number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// The texts of the elements that a selector finds; none while no page is there.
    pub fn texts(&self, css: &str) -> Vec<String> {
        let script = "return [...document.querySelectorAll(arguments[0])]
            .map((element) => element.textContent.replace(/\\s+/g, ' ').trim())";
        self.strings(script, css)
    }

    /// That attribute of each of the elements that a selector finds and that have it.
    pub fn attributes(&self, css: &str, name: &str) -> Vec<String> {
        let script = format!(
            "return [...document.querySelectorAll(arguments[0])].map((element) => element.getAttribute('{name}'))
                .filter((value) => value !== null)"
        );
        self.strings(&script, css)
    }

    fn strings(&self, script: &str, css: &str) -> Vec<String> {
        let found = self.try_script(script, &[json!(css)]).unwrap_or_default();
        let found = found.as_array().into_iter().flatten();
        found.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Waits until an element that the selector finds has this in its text.
    ///
    /// # Panics
    /// When none gets it.
    #[track_caller]
    pub fn wait_text(&self, css: &str, text: &str) {
        wait_for(&format!("{text:?} in {css}"), || {
            let texts = self.texts(css);
            if texts.iter().any(|one| one.contains(text)) { Ok(()) } else { Err((self.ask_url(), texts)) }
        });
    }

    /// Waits until the selector finds as many elements.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    pub fn wait_count(&self, css: &str, count: usize) {
        wait_for(&format!("{count} of {css}"), || {
            let found = self.count(css);
            if found == count { Ok(()) } else { Err((self.ask_url(), found, self.texts("main"))) }
        });
    }

    /// Clicks what the selector finds first, once it is there and can be clicked.
    ///
    /// # Panics
    /// When it never can.
    #[track_caller]
    pub fn click(&self, css: &str) {
        self.with(css, "clicked", |element| async move { element.click().await });
    }

    /// Types a text in place of the one that a field has.
    ///
    /// # Panics
    /// When there is no such field.
    #[track_caller]
    pub fn fill(&self, css: &str, text: &str) {
        self.with(css, "filled", |element| async move {
            element.clear().await?;
            element.send_keys(text).await
        });
    }

    /// Chooses the entry with this value.
    ///
    /// # Panics
    /// When there is no such field or entry.
    #[track_caller]
    pub fn choose(&self, css: &str, value: &str) {
        self.with(css, "chosen from", |element| async move { element.select_by_value(value).await });
    }

    #[track_caller]
    fn with<F: Future<Output = Result<(), CmdError>>>(&self, css: &str, done: &str, act: impl Fn(Element) -> F) {
        wait_for(&format!("{css} to be {done}"), || {
            let done = self.ask(async { act(self.client.find(Locator::Css(css)).await?).await });
            done.map_err(|error| (error, self.ask_url()))
        });
    }

    /// Presses a key and lets it go, wherever the focus is.
    ///
    /// # Panics
    /// When the browser does not take it.
    #[track_caller]
    pub fn press(&self, key: impl Into<char>) {
        self.keys(&[key.into()]);
    }

    /// Types a text wherever the focus is; `\n` is the key for it.
    ///
    /// # Panics
    /// When the browser does not take it.
    #[track_caller]
    pub fn write(&self, text: &str) {
        let keys: Vec<char> =
            text.chars().map(|letter| if letter == '\n' { Key::Enter.into() } else { letter }).collect();
        self.keys(&keys);
    }

    #[track_caller]
    fn keys(&self, keys: &[char]) {
        let press = |all: KeyActions, &value: &char| all.then(KeyAction::Down { value }).then(KeyAction::Up { value });
        let actions = keys.iter().fold(KeyActions::new("keys".to_owned()), press);
        self.must("take keys", self.client.perform_actions(actions));
    }

    /// Whether what has the focus is found by the selector.
    pub fn is_focused(&self, css: &str) -> bool {
        self.script("return document.activeElement?.matches(arguments[0]) === true", &[json!(css)]) == json!(true)
    }

    /// The window that is used.
    ///
    /// # Panics
    /// When it is closed.
    #[track_caller]
    pub fn window(&self) -> WindowHandle {
        self.must("tell the window", self.client.window())
    }

    /// Opens another window and uses that one from now on.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[track_caller]
    pub fn open_window(&self) -> WindowHandle {
        let handle = self.must("open a window", self.client.new_window(false)).handle;
        self.use_window(&handle);
        handle
    }

    /// Uses this window from now on.
    ///
    /// # Panics
    /// When it is closed.
    #[track_caller]
    pub fn use_window(&self, window: &WindowHandle) {
        self.must("change the window", self.client.switch_to_window(window.clone()));
    }

    /// How large the window is from now on, in pixels of the style sheet, and whether it is that of a phone.
    ///
    /// # Panics
    /// When the browser does not take it.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32, is_phone: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.own("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// What the system says that it likes from now on: `light` or `dark`.
    ///
    /// # Panics
    /// When the browser does not take it.
    #[track_caller]
    pub fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.own("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// A command of the Chrome DevTools Protocol.
    #[track_caller]
    fn own(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.must(command, self.client.issue_cmd(OfDriver { path: "goog/cdp/execute", body }));
    }

    /// The errors that the browser has put on its console since this was asked last, of scripts, policies and the network. That a
    /// page's own stream broke is none: the machine's interfaces come and go, and the page takes the stream up again, which it
    /// says where it cannot.
    ///
    /// # Panics
    /// When the browser does not say.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let log = OfDriver { path: "se/log", body: json!({ "type": "browser" }) };
        let log = self.must("show its console", self.client.issue_cmd(log));
        let entries = log.as_array().expect("a list of messages").iter();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE");
        let messages = severe.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned());
        messages.filter(|message| !(message.contains("/live?") && message.contains("net::ERR_"))).collect()
    }

    /// What axe-core finds in the page that keeps people from using it: its serious and critical violations.
    ///
    /// # Panics
    /// When axe-core cannot be had, or does not run.
    #[track_caller]
    pub fn axe(&self) -> Vec<String> {
        if self.script("return typeof axe", &[]) == json!("undefined") {
            let path = Output::of(&mut Command::new(repository().join("tests/axe.sh")), None).ok();
            let axe = fs::read_to_string(path.trim()).expect("the script has put it there");
            self.script(&axe, &[]);
        }
        let found = self.later(RUN_AXE, &[]);
        let lines = found.as_array().expect("a list of lines").iter();
        lines.map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What is seen of the page, as PNG.
    ///
    /// # Panics
    /// When the browser does not show it.
    #[track_caller]
    pub fn screenshot(&self) -> Vec<u8> {
        self.must("make a picture", self.client.screenshot())
    }

    fn ask_url(&self) -> String {
        self.ask(self.client.current_url()).map_or_else(|error| error, |url| url.to_string())
    }

    #[track_caller]
    fn must<T>(&self, what: &str, work: impl Future<Output = Result<T, CmdError>>) -> T {
        self.ask(work).unwrap_or_else(|error| panic!("the browser does not {what}: {error}"))
    }

    fn ask<T>(&self, work: impl Future<Output = Result<T, CmdError>>) -> Result<T, String> {
        let done = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
        done.map_err(|_| "no answer from the driver".to_owned())?.map_err(|error| error.to_string())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let work = async { tokio::time::timeout(Duration::from_secs(5), self.client.screenshot()).await };
            if let Ok(Ok(picture)) = self.runtime.block_on(work) {
                let path = run_dir().join(format!("browser-{}-{}.png", std::process::id(), self.driver.id()));
                let kept = fs::write(&path, picture);
                eprintln!("browser at {}: {} {kept:?}: {}", self.ask_url(), path.display(), said(self.home.path()));
            }
        }
        // Its output ends with the last process that has it.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        if let Some(mut output) = self.driver.stdout.take() {
            let _ = output.read_to_end(&mut Vec::new());
        }
    }
}

/// A command that only this driver has.
#[derive(Debug)]
struct OfDriver {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for OfDriver {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _url: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

fn start(outside: &Outside, home: &Path) -> Child {
    let log = File::create(home.join("driver.log")).expect("a log");
    let mut command = Command::new("nsenter");
    command.args(["--target", &outside.pid().to_string(), "--net", "--"]);
    command.args(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--", DRIVER, "--port=0"]);
    command.env("HOME", home).env_remove("DISPLAY").env_remove("DBUS_SESSION_BUS_ADDRESS");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.spawn().expect("the driver can be started")
}

/// The port that the driver says it listens at.
#[track_caller]
fn port(driver: &mut Child, home: &Path) -> u16 {
    let stdout = driver.stdout.as_mut().expect("piped above");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let port = |line: String| line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok();
    lines.find_map(port).unwrap_or_else(|| panic!("{DRIVER} does not start: {}", said(home)))
}

fn said(home: &Path) -> String {
    fs::read_to_string(home.join("driver.log")).unwrap_or_default()
}

/// What talks to the driver, from the namespace where that is.
fn runtime(namespace: PathBuf) -> Runtime {
    let enter = move || {
        let namespace = File::open(&namespace).expect("a network namespace");
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("tests run as root");
    };
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().on_thread_start(enter).build().expect("a runtime")
}

fn capabilities(home: &Path) -> Capabilities {
    let profile = format!("--user-data-dir={}", home.join("profile").display());
    let args = [
        "--headless=new",
        // It runs as root, and all that it shows is the cluster's.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--force-prefers-reduced-motion",
        "--window-size=1440,900",
        &profile,
    ];
    let wanted = json!({
        "acceptInsecureCerts": true,
        "timeouts": { "script": 30_000, "pageLoad": 30_000, "implicit": 0 },
        "goog:loggingPrefs": { "browser": "ALL" },
        "goog:chromeOptions": { "binary": CHROMIUM, "args": args },
    });
    wanted.as_object().expect("an object").clone()
}
