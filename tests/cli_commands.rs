//! The built program as a person or a script meets it: output, exit codes, what it leaves behind.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder with a configuration that nobody has signed in for.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        let text = format!(
            "[server]\nhostname = \"localhost\"\ndata_dir = \"{}\"\n\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\n\n\
             [[account]]\nmailbox = \"scanner@contoso.com\"\nprovider = \"office365\"\n\
             tenant = \"contoso.onmicrosoft.com\"\n\
             client_id = \"11111111-2222-4333-8444-555555555555\"\n\
             grant = \"authorization_code\"\n",
            home.data_dir().display()
        );
        std::fs::write(home.config(), text).unwrap();
        home
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("mailbearer.toml")
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs a command with this home's configuration.
    fn run(&self, arguments: &[&str], input: &str) -> Ran {
        let config = self.config();
        let mut arguments = arguments.to_vec();
        arguments.extend(["--config", config.to_str().unwrap()]);
        run(&arguments, input)
    }
}

/// What a command said, and its exit code.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn run(arguments: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mailbearer"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    Ran {
        code: status.code().expect("an exit code and no signal"),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

#[test]
fn help_and_version_succeed_and_usage_errors_are_64() {
    let help = run(&["--help"], "");
    assert_eq!(help.code, 0);
    for command in ["serve", "demo", "check", "login", "providers", "status", "send", "credential"]
    {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command}:\n{}", help.out);
        assert_eq!(run(&[command, "--help"], "").code, 0, "{command}");
    }
    assert!(run(&["--version"], "").out.starts_with("mailbearer "));
    for wrong in [&["frobnicate"][..], &[], &["login"], &["status", "--jsno"]] {
        assert_eq!(run(wrong, "").code, 64, "{wrong:?}");
    }
}

#[test]
fn check_says_that_a_configuration_is_right_or_everything_that_is_wrong_with_it() {
    let home = Home::new();
    let right = home.run(&["check"], "");
    assert_eq!((right.code, right.err.as_str()), (0, ""));
    assert!(right.out.contains("1 listener, 1 account, 0 credentials"), "{}", right.out);
    let text = std::fs::read_to_string(home.config()).unwrap();
    let text = text.replace("office365", "ofice365").replace("[[listener]]", "[[listner]]");
    std::fs::write(home.config(), text).unwrap();
    let wrong = home.run(&["check"], "");
    assert_eq!(wrong.code, 78);
    for part in ["mailbearer.toml:5:", "listner", "mailbearer.toml:10:", "ofice365"] {
        assert!(wrong.err.contains(part), "{part} is not in:\n{}", wrong.err);
    }
    std::fs::remove_file(home.config()).unwrap();
    let missing = home.run(&["check"], "");
    assert_eq!(missing.code, 78);
    assert!(missing.err.contains("mailbearer.toml"), "{}", missing.err);
}

#[test]
fn providers_are_listed_with_what_they_can_do() {
    let listing = run(&["providers"], "");
    assert_eq!((listing.code, listing.err.as_str()), (0, ""));
    for part in ["smtp.office365.us:587 starttls", "device_code         no: Google allows"] {
        assert!(listing.out.contains(part), "{part} is not in:\n{}", listing.out);
    }
    let json = run(&["providers", "--json"], "");
    let providers: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let office365 = &providers[0];
    assert_eq!(office365["provider"], "office365");
    assert_eq!((&office365["cloud"], &office365["smtp_port"]), (&"worldwide".into(), &587.into()));
    assert_eq!(office365["mechanism"], "XOAUTH2");
    assert_eq!(office365["limits"]["messages_per_minute"], 30);
    assert_eq!(office365["grants"][1]["grant"], "device_code");
    assert!(office365["grants"][1]["refusal"].is_null());
}

#[test]
fn a_sign_in_on_another_device_is_refused_where_the_provider_has_none() {
    let home = Home::new();
    let text = std::fs::read_to_string(home.config()).unwrap();
    let text =
        text.replace("office365", "gmail").replace("tenant = \"contoso.onmicrosoft.com\"", "");
    std::fs::write(home.config(), text).unwrap();
    let refused = home.run(&["login", "scanner@contoso.com", "--device"], "");
    assert_eq!(refused.code, 78, "{}", refused.err);
    assert!(refused.err.contains("Google allows no mail scope"), "{}", refused.err);
}

#[test]
fn a_password_is_hashed_from_standard_input() {
    let hash = run(&["credential", "hash"], "correct horse\n");
    assert_eq!(hash.code, 0, "{}", hash.err);
    assert!(hash.out.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{}", hash.out);
    assert_eq!(hash.out.lines().count(), 1);
    let empty = run(&["credential", "hash"], "\n");
    assert_eq!(empty.code, 65);
    assert!(empty.err.contains("empty"), "{}", empty.err);
}

#[test]
fn credentials_are_added_listed_and_removed() {
    let home = Home::new();
    let add = ["credential", "add", "printer", "--account", "Scanner@Contoso.com"];
    let added = home.run(&add, "secret-of-the-printer\n");
    assert_eq!(added.code, 0, "{}", added.err);
    let listed = home.run(&["credential", "list", "--json"], "");
    let json: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(json[0]["name"], "printer");
    assert_eq!(json[0]["account"], "scanner@contoso.com");
    assert_eq!(json[0]["stands_in"], "store");
    assert!(!listed.out.contains("argon2"), "the hash is nobody's business");
    let again = home.run(&add, "other\n");
    assert_eq!(again.code, 65, "{}", again.err);
    let unknown = home.run(&["credential", "add", "x", "--account", "nobody@contoso.com"], "y\n");
    assert_eq!(unknown.code, 65);
    assert!(unknown.err.contains("scanner@contoso.com"), "names those that exist: {}", unknown.err);
    assert_eq!(home.run(&["credential", "remove", "printer"], "").code, 0);
    assert_eq!(home.run(&["credential", "remove", "printer"], "").code, 65);
    let table = home.run(&["credential", "list"], "");
    assert!(table.out.contains("mailbearer credential add"), "says what to do: {}", table.out);
    let stored = std::fs::read(home.data_dir().join("mailbearer.db"));
    if let Ok(stored) = stored {
        assert!(!String::from_utf8_lossy(&stored).contains("secret-of-the-printer"));
    }
}

#[test]
fn status_names_what_needs_a_person_and_the_command_that_helps() {
    let home = Home::new();
    let status = home.run(&["status"], "");
    assert_eq!(status.code, 0, "{}", status.err);
    for part in ["needs sign-in", "mailbearer login scanner@contoso.com", "mailbearer serve"] {
        assert!(status.out.contains(part), "{part} is not in:\n{}", status.out);
    }
    let json = home.run(&["status", "--json"], "");
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["daemon_runs"], false);
    assert_eq!(json["accounts"][0]["state"], "needs sign-in");
    assert_eq!(json["accounts"][0]["queued"], 0);
}

#[test]
fn a_data_dir_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let home = Home::new();
    std::fs::create_dir(home.data_dir()).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(home.data_dir(), mode).unwrap();
    let refused = home.run(&["status"], "");
    assert_eq!(refused.code, 77, "{}", refused.err);
    assert!(refused.err.contains("chmod 700"), "{}", refused.err);
}

#[test]
fn sending_where_nobody_listens_says_so() {
    let home = Home::new();
    let text = std::fs::read_to_string(home.config()).unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(home.config(), text.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")))
        .unwrap();
    let sent = home.run(&["send", "--to", "a@contoso.com"], "");
    assert_eq!(sent.code, 69, "{}", sent.err);
    assert!(sent.err.contains("mailbearer serve"), "{}", sent.err);
}

#[test]
fn one_data_dir_serves_one_daemon() {
    let home = Home::new();
    let mut first = Command::new(env!("CARGO_BIN_EXE_mailbearer"))
        .args(["serve", "--config", home.config().to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(first.stderr.take().unwrap()));
    // Read on to the end in a thread, so that the daemon is never held up by a full pipe.
    let (started, is_started) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line.contains("started") {
                let _ = started.send(());
            }
        }
    });
    is_started.recv_timeout(std::time::Duration::from_secs(30)).expect("the first one starts");
    let second = home.run(&["serve"], "");
    assert_eq!(second.code, 69, "{}", second.err);
    assert!(second.err.contains("another mailbearer daemon"), "{}", second.err);
    let status = home.run(&["status", "--json"], "");
    assert!(status.out.contains("\"daemon_runs\": true"), "{}", status.out);
    let pid = rustix::process::Pid::from_child(&first);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0), "a stop that was asked for is no failure");
    reader.join().unwrap();
}

/// Every command line of the documents, as far as its words are known here, is one that exists.
#[test]
fn the_documents_speak_of_commands_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    for file in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        for (at, _) in text.match_indices("`mailbearer ") {
            let line = &text[at + 1..];
            let line = &line[..line.find('`').unwrap()];
            let words: Vec<_> = line.split_whitespace().skip(1).collect();
            let commands: Vec<_> =
                words.iter().take_while(|word| !word.starts_with('-')).take(2).copied().collect();
            let command = match commands[..] {
                ["credential", what, ..] => vec!["credential", what],
                [command, ..] => vec![command],
                [] => continue,
            };
            let help = run(&[&command[..], &["--help"]].concat(), "");
            assert_eq!(help.code, 0, "{file}: {line}");
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.out.contains(*flag), "{file}: {line}: {flag}");
            }
            found += 1;
        }
    }
    assert!(found > 5, "only {found} command lines were found");
}
