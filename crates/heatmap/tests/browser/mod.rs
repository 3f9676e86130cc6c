//! A headless Chromium, driven through its debugging pipe: real input events, and everything that the page
//! logs or asks the network for.
//!
//! A client of its own, since the crates that speak the protocol bring all of it as generated code and a web
//! socket: minutes of compiling for the eight methods that are used here. Protocol:
//! <https://chromedevtools.github.io/devtools-protocol/>; messages on the pipe end with a NUL.

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Without this variable tests are skipped where there is no Chromium.
const REQUIRE: &str = "FUSED_LORA_REQUIRE_CHROMIUM";
/// The whole test may take this long; then the browser is killed, and whoever waits for it fails.
const DEADLINE: Duration = Duration::from_secs(120);
/// What a page is given to react to an input.
const REACTION: Duration = Duration::from_secs(5);

/// A browser with one page.
pub(crate) struct Browser {
    child: Arc<Mutex<Child>>,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    calls: u64,
    events: VecDeque<Value>,
    /// Closing it ends the watchdog.
    _finished: mpsc::Sender<()>,
    _profile: TempDir,
}

impl Browser {
    /// Starts one, or says why the test is skipped.
    ///
    /// # Panics
    ///
    /// If there is none though [`REQUIRE`] is set, or it does not start.
    pub(crate) fn start(width: u32, height: u32) -> Option<Browser> {
        let Some(program) = find() else {
            assert!(
                env::var_os(REQUIRE).is_none_or(|value| value != "1"),
                "{REQUIRE}=1, and no chromium in PATH"
            );
            eprintln!("skipped: there is no chromium in PATH ({REQUIRE}=1 makes this a failure)");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // The pipe is descriptors 3 and 4, which only a shell sets without unsafe code.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"])
            .arg(program)
            .args(["--headless", "--remote-debugging-pipe", "--no-first-run", "--hide-scrollbars"])
            // It refuses to run as root with its sandbox; containers have little /dev/shm.
            .args([
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--force-device-scale-factor=1",
            ])
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let child = Arc::new(Mutex::new(child));
        let (finished, end) = mpsc::channel();
        let watched = Arc::clone(&child);
        thread::spawn(move || {
            if end.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = watched.lock().unwrap().kill();
            }
        });
        let mut browser = Browser {
            child,
            to,
            from,
            session: None,
            calls: 0,
            events: VecDeque::new(),
            _finished: finished,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        Some(browser)
    }

    /// Opens a file and waits for its load event.
    pub(crate) fn open(&mut self, path: &Path) {
        self.events.clear();
        let url = format!("file://{}", path.display());
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let message = self.receive();
            self.events.push_back(message);
        }
    }

    /// The value of an expression.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text of the first visible element of a selector.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let selector = json!(selector);
        let visible = format!("[...document.querySelectorAll({selector})].find((e) => e.checkVisibility())");
        self.eval(&format!("({visible})?.innerText ?? ''")).as_str().unwrap().to_owned()
    }

    /// The middle of the only visible element of a selector, after scrolling it into view.
    fn middle(&mut self, selector: &str) -> (f64, f64) {
        let selector_text = json!(selector);
        let found = self.eval(&format!(
            "(() => {{
                const all = [...document.querySelectorAll({selector_text})];
                const seen = all.filter((e) => e.checkVisibility());
                seen[0]?.scrollIntoView({{ block: 'nearest' }});
                const box = seen[0]?.getBoundingClientRect();
                return [seen.length, box?.x + box?.width / 2, box?.y + box?.height / 2];
            }})()"
        ));
        assert_eq!(found[0], 1, "visible elements '{selector}'");
        (found[1].as_f64().unwrap(), found[2].as_f64().unwrap())
    }

    /// Moves the mouse onto an element.
    pub(crate) fn hover(&mut self, selector: &str) {
        let (x, y) = self.middle(selector);
        self.move_to(x, y);
    }

    /// Moves the mouse to a point of the window.
    pub(crate) fn move_to(&mut self, x: f64, y: f64) {
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": x, "y": y }));
    }

    /// Clicks an element with the mouse.
    pub(crate) fn click(&mut self, selector: &str) {
        let (x, y) = self.middle(selector);
        self.move_to(x, y);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Taps an element with a finger.
    pub(crate) fn tap(&mut self, selector: &str) {
        let (x, y) = self.middle(selector);
        let touch = json!({ "type": "touchStart", "touchPoints": [{ "x": x, "y": y }] });
        self.call("Input.dispatchTouchEvent", touch);
        self.call("Input.dispatchTouchEvent", json!({ "type": "touchEnd", "touchPoints": [] }));
    }

    /// Presses and releases a key.
    pub(crate) fn press(&mut self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            let code = match key {
                "Tab" => 9,
                "Escape" => 27,
                "ArrowLeft" => 37,
                "ArrowUp" => 38,
                "ArrowRight" => 39,
                "ArrowDown" => 40,
                other => panic!("no code of key '{other}'"),
            };
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Waits until an expression is true.
    pub(crate) fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        while self.eval(expression) != true {
            assert!(start.elapsed() < REACTION, "never became true: {expression}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A PNG of the window, or of the whole page.
    pub(crate) fn screenshot(&mut self, path: &Path, whole: bool) {
        let answer = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": whole }));
        let png = base64::engine::general_purpose::STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        fs::write(path, png).unwrap();
    }

    /// The page as it is printed, as a PDF.
    pub(crate) fn print(&mut self) -> Vec<u8> {
        let answer = self.call("Page.printToPDF", json!({ "printBackground": true, "landscape": true }));
        base64::engine::general_purpose::STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }

    /// What the page has thrown, or logged as an error or a warning, since it was opened.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // An answer comes after the events before it.
        self.eval("0");
        let complaint = |event: &Value| {
            let parameters = &event["params"];
            let is_bad = match event["method"].as_str()? {
                "Runtime.exceptionThrown" => true,
                "Runtime.consoleAPICalled" => {
                    ["error", "warning", "assert"].iter().any(|kind| parameters["type"] == *kind)
                }
                "Log.entryAdded" => {
                    ["error", "warning"].iter().any(|level| parameters["entry"]["level"] == *level)
                }
                _ => false,
            };
            is_bad.then(|| event.to_string())
        };
        self.events.iter().filter_map(complaint).collect()
    }

    /// The addresses that the page has asked for since it was opened.
    pub(crate) fn requests(&mut self) -> Vec<String> {
        self.eval("0");
        let sent = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// Calls a method and returns its result.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut message = self.receive();
            if message["id"] == self.calls {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push_back(message);
        }
    }

    fn receive(&mut self) -> Value {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "the browser has gone, or was killed after {DEADLINE:?}");
        serde_json::from_slice(&message).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its processes write into the profile until they are gone.
        self.session = None;
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let start = Instant::now();
        let mut child = self.child.lock().unwrap();
        while matches!(child.try_wait(), Ok(None)) {
            if start.elapsed() > REACTION {
                let _ = child.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The program, under the names that distributions give it.
fn find() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    let names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}
