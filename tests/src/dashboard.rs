//! The dashboard of one manager in a browser: logging in, its pages, its tiles.

use crate::cluster::address;
use crate::{Browser, Cluster, wait_for};

/// A tile of a task that runs.
pub const RUNNING: &str = ".tile.s-run";

/// The dashboard that a manager serves.
#[derive(Clone, Copy)]
pub struct Dashboard<'a> {
    browser: &'a Browser,
    at: usize,
}

impl<'a> Dashboard<'a> {
    /// That of the manager on host `at`, of a cluster that serves HTTP.
    pub fn new(browser: &'a Browser, at: usize) -> Self {
        Self { browser, at }
    }

    /// Address of a page.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}:4778{path}", address(self.at))
    }

    /// Goes to a page; returns when all that it has open is open, so that it can be left without a broken connection.
    ///
    /// # Panics
    /// When it cannot be shown.
    #[track_caller]
    pub fn visit(&self, path: &str) {
        self.browser.goto(&self.url(path));
        self.browser.wait_count("[data-log-is=connecting]", 0);
    }

    /// Waits until this page is open.
    ///
    /// # Panics
    /// When another one stays.
    #[track_caller]
    pub fn wait_page(&self, path: &str) {
        let wanted = self.url(path);
        wait_for(&format!("the page {wanted}"), || {
            let url = self.browser.url();
            if url == wanted { Ok(()) } else { Err((url, self.browser.texts("body"))) }
        });
    }

    /// Path of the page that is open.
    #[track_caller]
    pub fn path(&self) -> String {
        let url = self.browser.url();
        url.strip_prefix(&self.url("")).unwrap_or(&url).to_owned()
    }

    /// Logs in with the token by the page for it, and is at the first page then.
    ///
    /// # Panics
    /// When the token is not taken.
    #[track_caller]
    pub fn log_in(&self, token: &str) {
        self.visit("/");
        self.wait_page("/login");
        self.enter(token);
    }

    /// Fills the login page, which is open.
    ///
    /// # Panics
    /// When the token is not taken.
    #[track_caller]
    pub fn enter(&self, token: &str) {
        self.browser.fill("#token", token);
        self.browser.click("form.login button");
        self.wait_page("/");
        self.browser.wait_text("h1", "Cluster");
    }

    /// Where a link leads on a page.
    ///
    /// # Panics
    /// When the page has none.
    #[track_caller]
    pub fn link(&self, page: &str, css: &str) -> String {
        self.visit(page);
        wait_for(&format!("a link {css} on {page}"), || {
            let found = self.browser.attributes(css, "href");
            found.first().cloned().ok_or_else(|| self.browser.texts("main"))
        })
    }

    /// The pages that everybody sees, each with a word for it; of pages about one object, that of the first in the list.
    ///
    /// # Panics
    /// When the cluster has no stack with a network, or none of its tasks runs.
    #[track_caller]
    pub fn pages(&self) -> Vec<(&'static str, String)> {
        let task = self.link("/", RUNNING);
        let node = self.link("/", ".node h3 a");
        let service = self.link("/services", "main th a[href^='/services/']");
        let stack = self.link("/stacks", "main th a[href^='/stacks/']");
        let network = self.link("/networks", "tr:has(a[href^='/stacks/']) th a");
        let logs = format!("{service}/logs");
        let mut pages = vec![
            ("node", node),
            ("service", service),
            ("logs", logs),
            ("task", task),
            ("stack", stack),
            ("network", network),
        ];
        let lists = ["services", "stacks", "networks", "volumes", "configs", "secrets", "images", "events"];
        pages.push(("cluster", "/".to_owned()));
        pages.extend(lists.map(|word| (word, format!("/{word}"))));
        pages
    }

    /// The pages that only those see who may act, besides.
    #[track_caller]
    pub fn acting_pages(&self) -> Vec<(&'static str, String)> {
        let drain = format!("{}/drain", self.link("/", ".node h3 a"));
        vec![("drain", drain), ("apply", "/apply".to_owned()), ("tokens", "/tokens".to_owned())]
    }

    /// Shows the page as who likes that sees it: `light` or `dark`.
    ///
    /// # Panics
    /// When the page does not follow.
    #[track_caller]
    pub fn prefer(&self, scheme: &str) {
        self.browser.prefer(scheme);
        self.browser.wait_count(&format!("html[data-theme={scheme}]"), 1);
    }
}

/// A new token for the dashboard with this role.
///
/// # Panics
/// When the cluster makes none.
#[track_caller]
pub fn token(cluster: &Cluster, role: &str) -> String {
    let made = cluster.any().berth(&["token", "create", "--role", role, &format!("an-{role}")]);
    made.ok().trim().to_owned()
}
