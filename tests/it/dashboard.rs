//! The dashboard of the admin port in a browser. Its pictures are kept in the folder `screenshots` of the target folder, so that
//! people can look at them.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::NamedTempFile;

use crate::support::agimo::Agimo;
use crate::support::chromium::Chromium;
use crate::support::python::PythonApplication;

const TOKEN: &str = "the token of the operators";
const WIDE: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (390, 844);

/// What the page must never do: scroll sideways.
const FITS: &str = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";

struct Dashboard {
    agimo: Agimo,
    chromium: Chromium,
    _token: NamedTempFile,
}

// === impl Dashboard ===

impl Dashboard {
    async fn open(configuration: &str) -> Self {
        let mut token = NamedTempFile::new().unwrap();
        writeln!(token, "{TOKEN}").unwrap();
        let path = token.path().to_str().unwrap();
        let agimo = Agimo::with(configuration).arguments(&["--admin-tokens", path]).start().await;
        let mut chromium = Chromium::start().await;
        chromium.show_as(WIDE, false).await;
        chromium.open(&format!("http://{}/ui", agimo.admin)).await;
        chromium.wait_for("document.body?.dataset.connection === 'live'").await;
        Self { agimo, chromium, _token: token }
    }

    /// Waits for a text in the row of a service.
    async fn until_row(&mut self, host: &str, part: &str, text: &str) {
        let expression = format!(
            "[...document.querySelectorAll('#services tbody tr')].some(row => \
             row.querySelector('.host').textContent === '{host}' && \
             row.querySelector('.{part}').textContent.includes('{text}'))"
        );
        self.chromium.wait_for(&expression).await;
    }

    async fn until_text(&mut self, selector: &str, text: &str) {
        let expression =
            format!("document.querySelector('{selector}').textContent.includes({text:?})");
        self.chromium.wait_for(&expression).await;
    }

    /// Keeps a picture in each size and colour scheme; the page must fit in each.
    async fn look(&mut self, name: &str) {
        for (size_name, size) in [("wide", WIDE), ("phone", PHONE)] {
            for (scheme, is_dark) in [("light", false), ("dark", true)] {
                self.chromium.show_as(size, is_dark).await;
                self.chromium.wait_for(FITS).await;
                // The whole page, if it is not very long.
                let height = self.chromium.wait_for("document.documentElement.scrollHeight").await;
                let height = height.as_u64().unwrap().clamp(u64::from(size.1), 2_400) as u32;
                self.chromium.show_as((size.0, height), is_dark).await;
                let picture = self.chromium.screenshot().await;
                keep(&format!("{name}-{size_name}-{scheme}.png"), &picture);
            }
        }
        self.chromium.show_as(WIDE, false).await;
    }
}

/// Writes a picture in base64 as a file.
fn keep(name: &str, picture: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    let script =
        "import base64, sys; open(sys.argv[1], 'wb').write(base64.b64decode(sys.stdin.read()))";
    let mut python = Command::new("python3")
        .args(["-c", script, folder.join(name).to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(picture.as_bytes()).unwrap();
    assert!(python.wait().unwrap().success());
}

/// Three services of an agimo: one sleeps, one starts, one cannot start.
fn three_services(gate: &Path) -> String {
    [
        PythonApplication::new("shop.test").key("sleep_after = '10m'").service(),
        PythonApplication::new("reports.test").env("WAIT_FOR", gate.display()).service(),
        PythonApplication::new("broken.test").env("EXIT", 7).service(),
    ]
    .concat()
}

#[tokio::test]
async fn the_dashboard_shows_each_service_as_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("open");
    let mut dashboard = Dashboard::open(&three_services(&gate)).await;
    dashboard.until_text("#headline", "3 services, 0 awake.").await;
    dashboard.until_row("shop.test", "state", "Asleep").await;

    // A request wakes one, another is held, and one cannot be woken.
    assert_eq!(dashboard.agimo.get("shop.test", "/cart?secret=1").await.status, 200);
    assert_eq!(dashboard.agimo.get("broken.test", "/").await.status, 503);
    let mut held = dashboard.agimo.connect().await;
    held.send("GET / HTTP/1.1\r\nHost: reports.test\r\n\r\n").await;
    dashboard.until_row("shop.test", "state", "Awake").await;
    dashboard.until_row("shop.test", "sleep", "in 9 min").await;
    dashboard.until_row("shop.test", "wake", "by GET shop.test/cart from 127.0.0.0/24").await;
    dashboard.until_row("reports.test", "state", "Waking").await;
    dashboard.until_row("broken.test", "wake", "failed: wake-exited").await;
    dashboard.until_row("reports.test", "held", "1oldest").await;
    dashboard.until_text("#headline", "3 services, 1 awake.").await;
    dashboard.look("three-services").await;

    // Filters and the search.
    let shown = "[...document.querySelectorAll('#services tbody tr:not([hidden]) .host')]\
                 .map(host => host.textContent).join(' ')";
    dashboard.chromium.click("[data-filter=waking]").await;
    dashboard.chromium.wait_for(&format!("{shown} === 'reports.test'")).await;
    dashboard.chromium.click("[data-filter='']").await;
    let search = "(input => { input.value = 'SHOP'; input.dispatchEvent(new Event('input')); return true; })\
                  (document.querySelector('#search'))";
    dashboard.chromium.wait_for(search).await;
    dashboard.chromium.wait_for(&format!("{shown} === 'shop.test'")).await;

    // The held request is answered.
    std::fs::write(&gate, "").unwrap();
    assert_eq!(held.response().await.status, 200);
    dashboard.until_row("reports.test", "state", "Awake").await;

    // A removed service leaves the table.
    let one = PythonApplication::new("new.test").service();
    dashboard.agimo.reconfigure(&one);
    dashboard.until_row("new.test", "state", "Asleep").await;
    dashboard.until_text("#headline", "1 service, 0 awake.").await;
}

#[tokio::test]
async fn a_service_is_explained_with_its_day_and_its_cold_starts() {
    let application = PythonApplication::new("shop.test").key("sleep_after = '300ms'");
    let mut dashboard = Dashboard::open(&application.env("START_DELAY", 0.2).service()).await;
    for count in 1..=2 {
        assert_eq!(dashboard.agimo.get("shop.test", "/cart").await.status, 200);
        dashboard.agimo.until_sleep_count("shop.test", count).await;
    }
    dashboard.chromium.click(".host").await;
    dashboard.until_text("#service-name", "shop.test").await;
    dashboard.until_text("#why", "Asleep: no request waits for it.").await;
    dashboard.until_text("#request-now", "A request now is held until an endpoint is ready").await;
    dashboard.chromium.wait_for("document.querySelectorAll('#records > li').length === 4").await;
    dashboard
        .until_text("#records", "Wake by GET shop.test/cart from 127.0.0.0/24 (unnamed): answered.")
        .await;
    dashboard.until_text("#records", "without a request.").await;
    let phases = "[...document.querySelector('.waterfall').querySelectorAll('span:nth-child(3n+1)')]\
                  .map(label => label.textContent).join()";
    let expected = "process started,ready,connected,forwarded,answered";
    dashboard.chromium.wait_for(&format!("{phases} === '{expected}'")).await;
    // Each wake has a part of the day in which it wakes, and one in which it is awake.
    dashboard
        .chromium
        .wait_for("['waking', 'awake', 'asleep'].every(state => document.querySelectorAll(`#day .${state}`).length === 2)")
        .await;
    dashboard.look("one-service").await;
}

#[tokio::test]
async fn a_token_lets_people_wake_pin_and_put_to_sleep() {
    let application = PythonApplication::new("shop.test").key("sleep_after = '1h'").service();
    let mut dashboard = Dashboard::open(&application).await;
    dashboard.chromium.click(".host").await;
    dashboard.until_text("#service-state", "Asleep").await;
    let use_token = |token: &str| {
        format!(
            "(form => !form.hidden && (form.querySelector('input').value = '{token}', \
             form.querySelector('button').click(), true))(document.querySelector('#token-form'))"
        )
    };
    dashboard.chromium.click("#wake").await;
    dashboard.chromium.wait_for(&use_token("a token that nobody has")).await;
    dashboard.until_text("#outcome", "The token is not known here.").await;
    dashboard.chromium.wait_for(&use_token(TOKEN)).await;
    dashboard.until_text("#outcome", "process shop.test: it is being woken.").await;
    dashboard.until_text("#service-state", "Awake").await;
    dashboard.until_text("#records", "Wake by admin-token: ready.").await;
    dashboard.chromium.click("#pin").await;
    dashboard.until_text("#why", "Awake: a pin of admin-token keeps it awake.").await;
    dashboard.until_text("#facts", "by admin-token, for another ").await;
    dashboard.chromium.click("#sleep").await;
    dashboard.until_text("#outcome", "A pin keeps the workload awake").await;
    dashboard.look("pinned-service").await;
    dashboard.chromium.click("#unpin").await;
    dashboard.until_text("#outcome", "its pin is removed").await;
    dashboard.until_text("#why", "Awake: it is idle, and is scaled to zero in").await;
    dashboard.chromium.click("#sleep").await;
    dashboard.until_text("#service-state", "Asleep").await;
}

#[tokio::test]
async fn a_thousand_services_are_shown_and_searched() {
    let services: String = (0..1_000)
        .map(|number| PythonApplication::new(&format!("app-{number:04}.test")).service())
        .collect();
    let mut dashboard = Dashboard::open(&services).await;
    dashboard.until_text("#headline", "1,000 services, 0 awake.").await;
    assert_eq!(dashboard.agimo.get("app-0007.test", "/").await.status, 200);
    dashboard.until_row("app-0007.test", "state", "Awake").await;
    dashboard.look("thousand-services").await;
    let search = "(input => { input.value = 'app-099 test'; input.dispatchEvent(new Event('input')); \
                  return document.querySelectorAll('#services tbody tr:not([hidden])').length === 10; })\
                  (document.querySelector('#search'))";
    dashboard.chromium.wait_for(search).await;
}

#[tokio::test]
async fn the_dashboard_loads_nothing_from_elsewhere() {
    let agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    let moved = agimo.admin("/ui").await;
    assert_eq!((moved.status, moved.header("location")), (308, Some("/ui/")));
    for file in ["", "dashboard.css", "dashboard.js", "service.js", "text.js"] {
        let asset = agimo.admin(&format!("/ui/{file}")).await;
        let policy = asset.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        let text = asset.text();
        let addresses = text.match_indices("://").filter(|(at, _)| {
            // The namespace of SVG is a name, and loads nothing.
            !text[..*at].ends_with("http") || !text[*at..].starts_with("://www.w3.org/2000/svg")
        });
        assert_eq!((asset.status, addresses.count()), (200, 0), "{file}");
    }
    assert_eq!(agimo.admin("/ui/other.js").await.status, 404);
}
