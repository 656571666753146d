//! The commands around a sign-in, against the simulated provider: who may sign in, what is kept,
//! how it ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use mailbearer::base::{Clock, Secret};
use mailbearer::sim::{Sim, SimOptions};
use mailbearer::store::{NewGrant, Store};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

const MAILBOX: &str = "scanner@contoso.com";
const OTHER: &str = "erp@contoso.com";

/// A configuration for the simulated provider.
struct Home {
    folder: TempDir,
    sim: Sim,
}

impl Home {
    async fn new() -> Self {
        let (folder, sim) =
            (tempfile::tempdir().unwrap(), Sim::start(SimOptions::default()).await.unwrap());
        let home = Self { folder, sim };
        home.configure("");
        home
    }

    /// Writes the configuration, with these lines in its `[[account]]`.
    fn configure(&self, account: &str) {
        let ca_file = self.folder.path().join("ca.pem");
        std::fs::write(&ca_file, self.sim.ca_pem()).unwrap();
        let text = format!(
            "[server]\nhostname = \"localhost\"\ndata_dir = \"data\"\n\n[[listener]]\n\
             address = \"127.0.0.1:0\"\n\n{}{account}\n{}",
            self.sim.account_toml(MAILBOX),
            self.sim.provider_toml(&ca_file),
        );
        std::fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("mailbearer.toml")
    }

    fn store(&self) -> Store {
        Store::open(&self.folder.path().join("data"), Clock::system()).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailbearer"));
        command.args(arguments).arg("--config").arg(self.config());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command while the simulation serves it.
    async fn run(&self, arguments: &[&str], input: &str) -> Ran {
        let (mut command, input) = (self.command(arguments), input.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            Ran::of(child.wait_with_output().unwrap())
        })
        .await
        .unwrap()
    }

    /// `mailbearer login`, and what a browser does with the address that it prints.
    async fn login(&self) -> Ran {
        let mut child = self.command(&["login", MAILBOX, "--no-browser"]).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (out, address) = tokio::task::spawn_blocking(move || {
            let mut out = BufReader::new(out);
            let mut address = String::new();
            while !address.starts_with("http") {
                address.clear();
                assert!(out.read_line(&mut address).unwrap() > 0, "no address was printed");
            }
            (out, address)
        })
        .await
        .unwrap();
        let redirect = location(&get(&address.trim().parse().unwrap()).await);
        let page = get(&redirect).await;
        assert!(page.contains("has arrived"), "{page}");
        tokio::task::spawn_blocking(move || {
            let mut out = out;
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
            let ended = Ran::of(child.wait_with_output().unwrap());
            Ran { out: rest, ..ended }
        })
        .await
        .unwrap()
    }

    async fn status(&self) -> Value {
        let status = self.run(&["status", "--json"], "").await;
        let status: Value = serde_json::from_str(&status.out).unwrap();
        status["accounts"][0].clone()
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("an exit code and no signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

async fn get(url: &Url) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", url.port().unwrap())).await.unwrap();
    let target = &url[url::Position::BeforePath..];
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

fn location(page: &str) -> Url {
    let mut lines = page.lines().filter_map(|line| line.split_once(": "));
    let location = lines.find(|(name, _)| name.eq_ignore_ascii_case("location"));
    location.unwrap_or_else(|| panic!("{page}")).1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_signs_in_and_nothing_is_stored() {
    let home = Home::new().await;
    home.sim.sign_in_as(Some(OTHER));
    let refused = home.login().await;
    assert_eq!(refused.code, 77, "{}", refused.err);
    for part in [OTHER, MAILBOX, "nothing was stored", "signs_in_as"] {
        assert!(refused.err.contains(part), "{part} is not in:\n{}", refused.err);
    }
    assert_eq!(home.store().grant(MAILBOX).await.unwrap(), None);
    assert_eq!(home.status().await["state"], "needs sign-in");

    // Declared, the same person is the right one, and the mailbox itself is not.
    home.configure(&format!("signs_in_as = \"{OTHER}\"\n"));
    let taken = home.login().await;
    assert_eq!(taken.code, 0, "{}", taken.err);
    assert!(taken.out.contains(&format!("Signed in as {OTHER}.")), "{}", taken.out);
    let before = home.store().grant(MAILBOX).await.unwrap();
    home.sim.sign_in_as(Some(MAILBOX));
    assert_eq!(home.login().await.code, 77);
    assert_eq!(home.store().grant(MAILBOX).await.unwrap(), before);
    home.sim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_how_a_grant_was_obtained_and_when_it_is_of_no_use() {
    let home = Home::new().await;
    assert_eq!(home.login().await.code, 0);
    let account = home.status().await;
    assert_eq!((&account["state"], &account["advice"]), (&"working".into(), &Value::Null));
    assert_eq!(account["obtained_how"], "authorization_code");
    assert_eq!(account["obtained_by"], MAILBOX);
    assert!(account["obtained_at"].is_string() && account["last_refresh_at"].is_string());
    assert_eq!(account["last_error"], Value::Null);
    let store = home.store();
    store.note_trouble(MAILBOX, "no access token for now: status 503").await.unwrap();
    let account = home.status().await;
    assert_eq!(account["state"], "working");
    assert_eq!(account["last_error"]["text"], "no access token for now: status 503");
    assert_eq!(account["last_error"]["is_over"], false);
    let text = home.run(&["status"], "").await.out;
    for part in [
        "authorization_code, signed in as scanner@contoso.com at 2",
        "last refresh  2",
        ": no access token for now: status 503\n",
        "tries again by itself",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    home.configure(&format!("signs_in_as = \"{OTHER}\"\n"));
    let account = home.status().await;
    assert_eq!(account["state"], "needs sign-in");
    let advice = account["advice"].as_str().unwrap();
    assert!(advice.contains("signs_in_as changed"), "{advice}");
    assert!(advice.contains("mailbearer login"), "{advice}");
    home.sim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_removes_the_grant_and_says_what_the_provider_knows() {
    let home = Home::new().await;
    let nobody = home.run(&["logout", MAILBOX], "").await;
    assert_eq!(nobody.code, 0, "{}", nobody.err);
    assert!(nobody.out.contains("nobody is signed in"), "{}", nobody.out);
    assert_eq!(home.login().await.code, 0);
    let gone = home.run(&["logout", MAILBOX], "").await;
    assert_eq!(gone.code, 0, "{}", gone.err);
    for part in ["is removed", "not revoked at sim", "mailbearer login scanner@contoso.com"] {
        assert!(gone.out.contains(part), "{part} is not in:\n{}", gone.out);
    }
    assert_eq!(home.store().grant(MAILBOX).await.unwrap(), None);
    assert_eq!(home.run(&["logout", "nobody@contoso.com"], "").await.code, 65);
    home.sim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_imported_and_inspected_and_never_shown() {
    let home = Home::new().await;
    let (_, refresh_token) = home.sim.grant(MAILBOX);
    let file = home.folder.path().join("token.txt");
    std::fs::write(&file, refresh_token.expose()).unwrap();
    assert_eq!(home.run(&["token", "import", MAILBOX], "\n").await.code, 65);
    let wrong = home.run(&["token", "import", MAILBOX], "made-up\n").await;
    assert_eq!(wrong.code, 77, "{}", wrong.err);
    assert!(wrong.err.contains("invalid_grant"), "{}", wrong.err);
    assert_eq!(home.store().grant(MAILBOX).await.unwrap(), None);
    let none = home.run(&["token", "inspect", MAILBOX], "").await;
    assert!(none.out.contains("no access token"), "{}", none.out);

    let file = file.to_str().unwrap();
    let imported = home.run(&["token", "import", MAILBOX, "--file", file], "").await;
    assert_eq!(imported.code, 0, "{}", imported.err);
    assert_eq!(home.status().await["obtained_how"], "import");
    let opaque = home.run(&["token", "inspect", MAILBOX], "").await;
    assert!(opaque.out.contains("is opaque"), "{}", opaque.out);

    // What Entra hands out for work accounts.
    let store = home.store();
    let grant = store.grant(MAILBOX).await.unwrap().unwrap();
    let claims = "eyJhdWQiOiJodHRwczovL291dGxvb2sub2ZmaWNlLmNvbSIsInNjcCI6IlNNVFAuU2VuZCIsInJvbGVz\
                  IjpbImEiLCJiIl0sImV4cCI6MTc5NTQzNjQzNX0";
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{claims}.marked");
    let jwt = NewGrant {
        access_token: Some(Secret::new(token)),
        refresh_token: grant.refresh_token,
        expires_at: grant.expires_at,
        obtained_at: grant.obtained_at,
        obtained_by: grant.obtained_by,
        retired: grant.retired,
        origin: grant.origin,
    };
    store.put_grant(MAILBOX, grant.version, jwt).await.unwrap();
    let text = home.run(&["token", "inspect", MAILBOX], "").await.out;
    for part in [
        "aud    https://outlook.office.com\n",
        "scp    SMTP.Send\n",
        "roles  a, b\n",
        "exp    1795436435 (2026-11-23",
        "a refresh token beside it",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let json = home.run(&["token", "inspect", MAILBOX, "--json"], "").await.out;
    let inspected: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&inspected["kind"], &inspected["claims"]["scp"]),
        (&"jwt".into(), &"SMTP.Send".into())
    );
    assert!(!format!("{text}{json}").contains("marked") && !json.contains("eyJ"));
    home.sim.stop().await;
}
