//! What a configuration means: defaults, overrides, and what follows from what.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailbearer::config::{
    self, AuthPolicy, BareNewline, Config, Delivery, ListenerTls, LogFormat, LogLevel,
    SenderPolicy, UpstreamTls,
};
use mailbearer::oauth::{Grant, Mechanism};

const SERVER: &str = "[server]\ndata_dir = \"data\"\n";
const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
const ACCOUNT: &str = "[[account]]\nmailbox = \"Scanner@Contoso.com\"\nprovider = \"office365\"\n\
                       client_id = \"00000000-0000-0000-0000-000000000000\"\n";
const CREDENTIAL: &str = "[[credential]]\nname = \"printer\"\naccount = \"SCANNER@contoso.com\"\n\
    password_hash = \"$argon2id$v=19$m=19456,t=2,p=1$j84tvuVyK8PJtXhi1NbKBA$imdwuBQx1ulkb/0chHp/iMNmweoL+Gm5Mdh+B2pPWwE\"\n";
const NETWORK: &str =
    "[[listener.network]]\nfrom = [\"192.168.10.0/24\"]\naccount = \"scanner@CONTOSO.com\"\n";

fn parse(parts: &[&str]) -> Config {
    let text = parts.concat();
    config::parse(&text, Path::new("/etc/mailbearer/mailbearer.toml"))
        .unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
}

#[test]
fn little_has_to_be_written() {
    let config = parse(&[SERVER, LISTENER, ACCOUNT, CREDENTIAL]);
    assert_eq!(config.server.data_dir, PathBuf::from("/etc/mailbearer/data"));
    assert!(!config.server.hostname.is_empty());
    assert_eq!(config.server.certificate, None);
    assert_eq!(config.server.confirm_within, Duration::from_secs(20));
    assert_eq!(config.server.max_message_octets, 35 * 1024 * 1024);
    let listener = &config.listeners[0];
    assert_eq!((listener.tls, listener.auth), (ListenerTls::StartTls, AuthPolicy::Required));
    assert_eq!((listener.delivery, listener.bare_newline), (None, BareNewline::Normalize));
    let account = &config.accounts[0];
    assert_eq!(
        (account.name.as_str(), account.mailbox.as_str()),
        ("scanner@contoso.com", "Scanner@Contoso.com")
    );
    assert_eq!((account.grant, account.sender), (Grant::AuthorizationCode, SenderPolicy::Keep));
    assert_eq!((account.delivery, &account.client.secret), (Delivery::Confirm, &None));
    assert_eq!(account.provider.smtp.host, "smtp.office365.com");
    let credential = &config.credentials[0];
    assert_eq!(config.account(&credential.account), Some(account));
    assert_eq!(credential.may_send_as.len(), 1);
    assert!(credential.may_send_as[0].matches("scanner@contoso.com"));
    assert!(!credential.may_send_as[0].matches("other@contoso.com"));
    assert!(credential.may_send_to[0].matches("anybody@example.com"));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Text, LogLevel::Info));
}

#[test]
fn a_provider_brings_everything_that_its_account_does_not_say() {
    let account = |keys: &str| {
        let account = format!("[[account]]\nmailbox = \"a@example.com\"\n{keys}\n");
        parse(&[SERVER, LISTENER, &account]).accounts[0].provider.clone()
    };
    let id = "client_id = \"00000000-0000-0000-0000-000000000000\"\n";
    let china = account(&format!(
        "provider = \"office365\"\ntenant = \"contoso.cn\"\ncloud = \"china\"\n\
         grant = \"device_code\"\n{id}"
    ));
    assert_eq!(china.smtp.host, "smtp.partner.outlook.cn");
    assert_eq!(china.scopes, ["https://partner.outlook.cn/SMTP.Send", "offline_access"]);
    let login = "https://login.partner.microsoftonline.cn/contoso.cn/oauth2/v2.0";
    assert_eq!(china.token_url.as_str(), format!("{login}/token"));
    assert_eq!(china.device_url.unwrap().as_str(), format!("{login}/devicecode"));
    let fastmail = account("provider = \"fastmail\"\nclient_id = \"x\"\n");
    assert_eq!((fastmail.smtp.port, fastmail.smtp.tls), (465, UpstreamTls::Implicit));
    assert_eq!((fastmail.device_url, fastmail.mechanism), (None, Mechanism::Xoauth2));
    let lab = account(
        "provider = \"lab\"\nclient_id = \"x\"\ngrant = \"device_code\"\n\
         [[provider]]\nname = \"lab\"\nsmtp = { host = \"mail.example.com\" }\n\
         mechanism = \"oauthbearer\"\ntoken_url = \"https://login.example.com/token\"\n\
         device_url = \"https://login.example.com/device\"\nscopes = [\"x\"]\n",
    );
    assert_eq!((lab.mechanism, lab.authorize_url), (Mechanism::OauthBearer, None));
    assert_eq!(lab.device_url.unwrap().as_str(), "https://login.example.com/device");
}

#[test]
fn passwords_are_taken_in_plaintext_on_loopback_or_where_that_is_written() {
    for (address, keys, expected) in [
        ("127.0.0.1:25", "", true),
        ("127.8.8.8:25", "", true),
        ("[::1]:25", "", true),
        ("[::ffff:127.0.0.1]:25", "", true),
        ("0.0.0.0:25", "", false),
        ("[::]:25", "", false),
        ("192.168.10.1:25", "", false),
        ("127.0.0.1:25", "plaintext_auth = false", false),
        ("0.0.0.0:25", "plaintext_auth = true", true),
        ("0.0.0.0:25", "plaintext_auth = true\ntls = \"off\"", true),
        ("127.0.0.1:25", "tls = \"off\"", true),
        ("127.0.0.1:25", "tls = \"require\"", false),
        ("127.0.0.1:25", "tls = \"implicit\"", false),
        ("0.0.0.0:25", "tls = \"implicit\"\nplaintext_auth = false", false),
    ] {
        let listener = format!("[[listener]]\naddress = \"{address}\"\n{keys}\n");
        let config = parse(&[SERVER, &listener, ACCOUNT]);
        assert_eq!(config.listeners[0].plaintext_auth, expected, "{address} {keys}");
    }
    let off = parse(&[SERVER, LISTENER, "auth = \"off\"\n", NETWORK, ACCOUNT]);
    assert!(!off.listeners[0].plaintext_auth && !off.listeners[0].offers_auth());
}

#[test]
fn the_narrowest_network_of_a_client_decides_its_account() {
    let networks = "[[listener]]\naddress = \"0.0.0.0:25\"\nauth = \"optional\"\n\
        [[listener.network]]\nfrom = [\"10.0.0.0/8\", \"fd00::/8\"]\naccount = \"wide@example.com\"\n\
        [[listener.network]]\nfrom = [\"10.1.0.0/16\", \"10.2.3.4\"]\naccount = \"narrow@example.com\"\n\
        [[listener.network]]\nfrom = [\"10.1.2.0/24\"]\naccount = \"narrowest@example.com\"\n";
    let account = |name| {
        format!(
            "[[account]]\nmailbox = \"{name}@example.com\"\nprovider = \"gmail\"\nclient_id = \"x\"\n"
        )
    };
    let accounts = ["wide", "narrow", "narrowest"].map(account).concat();
    let config = parse(&[SERVER, networks, &accounts]);
    for (client, expected) in [
        ("10.9.9.9", Some("wide@example.com")),
        ("10.1.9.9", Some("narrow@example.com")),
        ("10.1.2.9", Some("narrowest@example.com")),
        ("::ffff:10.1.2.9", Some("narrowest@example.com")),
        ("10.2.3.4", Some("narrow@example.com")),
        ("10.2.3.5", Some("wide@example.com")),
        ("fd00::1", Some("wide@example.com")),
        ("11.0.0.1", None),
        ("::1", None),
    ] {
        let client: IpAddr = client.parse().unwrap();
        let network = config.listeners[0].network_of(client);
        assert_eq!(network.map(|network| network.account.as_str()), expected, "{client}");
    }
}

#[test]
fn an_account_without_clients_is_left_to_the_store_where_passwords_are_taken() {
    let left = |config: &Config| config.accounts_left_to_the_store().count();
    assert_eq!(left(&parse(&[SERVER, LISTENER, ACCOUNT])), 1);
    assert_eq!(left(&parse(&[SERVER, LISTENER, ACCOUNT, CREDENTIAL])), 0);
    assert_eq!(left(&parse(&[SERVER, LISTENER, "auth = \"off\"\n", NETWORK, ACCOUNT])), 0);
}

#[test]
fn port_and_tls_of_a_provider_follow_from_each_other() {
    for (keys, port, tls) in [
        ("", 587, UpstreamTls::StartTls),
        (", port = 587", 587, UpstreamTls::StartTls),
        (", port = 465", 465, UpstreamTls::Implicit),
        (", port = 2525", 2525, UpstreamTls::StartTls),
        (", tls = \"implicit\"", 465, UpstreamTls::Implicit),
        (", tls = \"starttls\"", 587, UpstreamTls::StartTls),
        (", port = 465, tls = \"starttls\"", 465, UpstreamTls::StartTls),
    ] {
        let provider = format!(
            "[[provider]]\nname = \"lab\"\nsmtp = {{ host = \"127.0.0.1\"{keys} }}\n\
             authorize_url = \"http://localhost:1/a\"\ntoken_url = \"http://127.0.0.1:1/t\"\n\
             limits = {{ sessions = 1, max_message_size = 1000000 }}\n"
        );
        let account = "[[account]]\nmailbox = \"a@b\"\nprovider = \"lab\"\nclient_id = \"x\"\n";
        let config = parse(&[SERVER, LISTENER, account, &provider]);
        let provider = &config.accounts[0].provider;
        assert_eq!((provider.smtp.port, provider.smtp.tls), (port, tls), "{keys}");
        assert_eq!((provider.limits.sessions, provider.limits.messages_per_minute), (1, 30));
        assert_eq!(provider.limits.max_message_octets, Some(1_000_000));
    }
}

/// The sketch of the design, less what is not built.
#[test]
fn the_sketch_of_the_design_is_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lab-ca.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    let text = r#"
        [server]
        hostname = "relay.contoso.local"
        data_dir = "/var/lib/mailbearer"

        [[listener]]
        address = "127.0.0.1:2525"
        tls = "starttls"
        auth = "required"
        [[listener.network]]
        from = ["192.168.10.0/24"]
        account = "scanner@contoso.com"

        [[credential]]
        name = "printer-3rd-floor"
        password_hash = "$argon2id$v=19$m=19456,t=2,p=1$j84tvuVyK8PJtXhi1NbKBA$imdwuBQx1ulkb/0chHp/iMNmweoL+Gm5Mdh+B2pPWwE"
        account = "scanner@contoso.com"
        may_send_as = ["*@contoso.com"]
        may_send_to = ["*"]

        [[account]]
        mailbox = "scanner@contoso.com"
        provider = "contoso-lab"
        client_id = "relay"
        grant = "authorization_code"
        sender = "keep"
        delivery = "confirm"

        [[provider]]
        name = "contoso-lab"
        smtp = { host = "localhost", port = 587, tls = "starttls" }
        authorize_url = "https://login.contoso.local/authorize"
        token_url = "https://login.contoso.local/token"
        scopes = ["smtp", "offline_access"]
        ca_file = "lab-ca.pem"
        limits = { sessions = 3, messages_per_minute = 30, recipients_per_day = 10000 }
    "#;
    let config = config::parse(text, &folder.path().join("mailbearer.toml")).unwrap();
    let provider = &config.accounts[0].provider;
    assert_eq!(provider.ca_file, Some(folder.path().join("lab-ca.pem")));
    assert_eq!(provider.scopes, ["smtp", "offline_access"]);
    assert_eq!(config.listeners[0].networks.len(), 1);
}

#[test]
fn files_of_windows_editors_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mailbearer.toml");
    let text = [SERVER, LISTENER, ACCOUNT].concat().replace('\n', "\r\n");
    fs::write(&path, format!("\u{feff}{text}")).unwrap();
    config::load(&path).unwrap_or_else(|mistakes| panic!("{mistakes}"));
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake_too() {
    let folder = tempfile::tempdir().unwrap();
    let said = |path: &Path| config::load(path).unwrap_err().to_string();
    let path = folder.path().join("mailbearer.toml");
    assert!(said(&path).contains("the file cannot be read: No such file"), "{}", said(&path));
    assert!(said(folder.path()).contains("the file cannot be read: Is a directory"));
    fs::write(&path, b"[server]\nhostname = \"b\xfccher\"\n").unwrap();
    assert!(said(&path).contains("line 2 is not text in UTF-8"), "{}", said(&path));
    fs::write(&path, vec![b'#'; 5 << 20]).unwrap();
    assert!(said(&path).contains("the file has more than 4194304 bytes"), "{}", said(&path));
}
