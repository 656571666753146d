//! The grants, and what is demanded of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use mailbearer::sim::{RefreshRule, Sim, SimLimits, SimOptions};

use crate::client::{
    REDIRECT, SCOPE, USER, VERIFIER, authorize_url, code, form, get, post, post_to, redeem,
    redeem_with, refresh,
};

async fn sim() -> Sim {
    Sim::start(SimOptions::default()).await.unwrap()
}

#[tokio::test]
async fn a_code_becomes_tokens_in_the_shape_of_entra() {
    let sim = sim().await;
    let back = get(&sim, &authorize_url(&sim, &[])).await;
    assert!(back.location().as_str().starts_with(REDIRECT));
    assert_eq!(back.returned("state").as_deref(), Some("some state&more"));
    assert_eq!(back.returned("error"), None);
    let answer = redeem(&sim, &back.returned("code").unwrap()).await;
    let json = answer.json();
    assert_eq!(answer.status, 200);
    assert!(answer.headers["content-type"].starts_with("application/json"));
    assert_eq!(answer.headers["cache-control"], "no-store, no-cache");
    assert_eq!(json["token_type"], "Bearer");
    assert_eq!(json["scope"], "https://outlook.office.com/SMTP.Send");
    assert_eq!((&json["expires_in"], &json["ext_expires_in"]), (&3_599.into(), &3_599.into()));
    assert_eq!(json["access_token"].as_str().unwrap().len(), 1_600);
    assert!(json["refresh_token"].is_string());
    assert!(json["id_token"].is_null(), "openid was not asked for");
    let counts = sim.counts();
    assert_eq!((counts.authorize_requests, counts.access_tokens), (1, 1));
    assert_eq!(counts.token_requests_of("authorization_code"), 1);
    sim.stop().await;
}

#[tokio::test]
async fn an_id_token_names_who_signed_in() {
    let options = SimOptions { signs_in: Some("erp@contoso.com".to_owned()), ..Default::default() };
    let sim = Sim::start(options).await.unwrap();
    let scope = format!("{SCOPE} openid email");
    let signed_in = async |sim: &Sim| {
        let back = get(sim, &authorize_url(sim, &[("scope", &scope)])).await;
        let json = redeem(sim, &back.returned("code").unwrap()).await.json();
        let claims = json["id_token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        claims["preferred_username"].as_str().unwrap().to_owned()
    };
    assert_eq!(signed_in(&sim).await, "erp@contoso.com", "whatever the hint");
    sim.sign_in_as(None);
    assert_eq!(signed_in(&sim).await, USER);
    sim.stop().await;
}

#[tokio::test]
async fn codes_and_pkce_are_enforced() {
    let sim = sim().await;
    let other = "M25iVXpKU3puUjFaYWg3T1NDTDQtcW1ROUY5YXlwalNoc0hhakxifmZHag";
    let verifier = redeem_with(&sim, &code(&sim).await, REDIRECT, other).await;
    assert_eq!(verifier.error(), (400, "invalid_grant".to_owned(), 501_481));
    let short = redeem_with(&sim, &code(&sim).await, REDIRECT, "short").await;
    assert_eq!(short.error(), (400, "invalid_request".to_owned(), 501_471));
    let none = redeem_with(&sim, &code(&sim).await, REDIRECT, "").await;
    assert_eq!(none.error(), (400, "invalid_request".to_owned(), 900_144));
    let uri = redeem_with(&sim, &code(&sim).await, "http://127.0.0.1:49153/", VERIFIER).await;
    assert_eq!(uri.error(), (400, "invalid_grant".to_owned(), 500_112));
    let unknown = redeem(&sim, "made-up").await;
    assert_eq!(unknown.error(), (400, "invalid_grant".to_owned(), 9_002_313));

    let code = code(&sim).await;
    let token = redeem(&sim, &code).await.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(redeem(&sim, &code).await.error(), (400, "invalid_grant".to_owned(), 54_005));
    let revoked = refresh(&sim, &token).await;
    assert_eq!(revoked.error(), (400, "invalid_grant".to_owned(), 50_173), "by the reuse");
    sim.stop().await;
}

#[tokio::test]
async fn requests_to_the_page_are_checked() {
    let sim = sim().await;
    let tenant = sim.authorize_url().path().to_owned();
    for (name, value, text) in [
        ("client_id", "", "AADSTS900144"),
        ("client_id", "nobody", "AADSTS700016"),
        ("redirect_uri", "", "AADSTS900971"),
        ("redirect_uri", "https://evil.example/", "AADSTS50011"),
        ("login_hint", "nobody@contoso.com", "AADSTS50034"),
    ] {
        let page = get(&sim, &authorize_url(&sim, &[(name, value)])).await;
        assert_eq!(page.status, 400, "{name}={value}: {}", page.body);
        assert!(page.body.contains(text), "{name}={value}: {}", page.body);
    }
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("scope", "", "invalid_request"),
        ("scope", "SMTP.Send", "invalid_scope"),
        ("state", "", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
    ] {
        let back = get(&sim, &authorize_url(&sim, &[(name, value)])).await;
        assert_eq!(back.returned("error").as_deref(), Some(error), "{name}={value}");
        assert!(back.returned("error_description").unwrap().starts_with("AADSTS"));
        assert_eq!(back.returned("code"), None);
    }
    let mut foreign = authorize_url(&sim, &[]);
    foreign.set_path(&tenant.replace("contoso", "fabrikam"));
    assert!(get(&sim, &foreign).await.body.contains("AADSTS90002"));
    foreign.set_path("/elsewhere");
    assert_eq!(get(&sim, &foreign).await.status, 404);
    for uri in ["http://localhost:1/", "http://[::1]:2/x", "http://127.0.0.1:3/callback?a=b"] {
        let back = get(&sim, &authorize_url(&sim, &[("redirect_uri", uri)])).await;
        assert!(back.location().as_str().starts_with(uri), "{uri}");
    }
    sim.stop().await;
}

#[tokio::test]
async fn without_a_hint_there_is_a_page_with_buttons() {
    let sim = sim().await;
    let url = authorize_url(&sim, &[("login_hint", ""), ("state", "\"><script>")]);
    let page = get(&sim, &url).await;
    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].starts_with("text/html"));
    assert!(page.body.contains("name=\"signed_in\" value=\"erp@contoso.com\""));
    assert!(!page.body.contains("<script>"), "{}", page.body);
    // What the buttons send: the fields of the page, and themselves.
    let mut pressed = url.clone();
    pressed.query_pairs_mut().append_pair("signed_in", "erp@contoso.com");
    let back = get(&sim, &pressed).await;
    assert!(redeem(&sim, &back.returned("code").unwrap()).await.status == 200);
    assert_eq!(back.returned("state").as_deref(), Some("\"><script>"));
    let mut declined = url;
    declined.query_pairs_mut().append_pair("declined", "yes");
    assert_eq!(get(&sim, &declined).await.returned("error").as_deref(), Some("access_denied"));
    sim.stop().await;

    let sim = Sim::start(SimOptions { always_ask: true, ..Default::default() }).await.unwrap();
    assert_eq!(get(&sim, &authorize_url(&sim, &[])).await.status, 200, "even with a hint");
    sim.stop().await;
}

#[tokio::test]
async fn refresh_tokens_rotate_and_reuse_revokes_all() {
    let sim = sim().await;
    let field = |json: &serde_json::Value, name: &str| json[name].as_str().unwrap().to_owned();
    let first = redeem(&sim, &code(&sim).await).await.json();
    let (a, access) = (field(&first, "refresh_token"), field(&first, "access_token"));
    let second = refresh(&sim, &a).await.json();
    let b = field(&second, "refresh_token");
    assert_ne!((&a, &access), (&b, &field(&second, "access_token")));
    let c = field(&refresh(&sim, &b).await.json(), "refresh_token");
    // Somebody uses an old one again.
    assert_eq!(refresh(&sim, &a).await.error(), (400, "invalid_grant".to_owned(), 50_173));
    assert_eq!(refresh(&sim, &c).await.error(), (400, "invalid_grant".to_owned(), 50_173));
    let (_, other) = sim.grant(USER);
    assert_eq!(refresh(&sim, other.expose()).await.status, 200, "another consent lives on");
    let (_, revoked) = sim.grant(USER);
    sim.revoke_refresh_tokens(Some(USER));
    assert_eq!(refresh(&sim, revoked.expose()).await.error().2, 50_173);
    assert_eq!(refresh(&sim, "made-up").await.error().2, 70_000);
    assert_eq!(sim.counts().token_requests_of("refresh_token"), 7);
    sim.stop().await;

    for rule in [RefreshRule::RotateAndKeep, RefreshRule::Keep] {
        let sim =
            Sim::start(SimOptions { refresh_rule: rule, ..Default::default() }).await.unwrap();
        let (_, token) = sim.grant(USER);
        for _ in 0..2 {
            let json = refresh(&sim, token.expose()).await.json();
            assert!(json["access_token"].is_string());
            assert_eq!(json["refresh_token"].is_null(), rule == RefreshRule::Keep);
        }
        sim.stop().await;
    }
}

#[tokio::test]
async fn client_credentials_with_the_secret_in_the_body_or_in_basic() {
    let sim = sim().await;
    let app = sim.app_client().unwrap();
    let (id, secret) = (app.id.as_str(), app.secret.as_ref().unwrap().expose());
    let scope = "https://outlook.office365.com/.default";
    let basic = |id: &str, secret: &str| {
        let encode = |text: &str| form(&[("x", text)])[2..].to_owned();
        let text = BASE64_STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
        format!("authorization: Basic {text}\r\n")
    };
    let grant = ("grant_type", "client_credentials");
    let public = sim.client().unwrap().id.as_str();
    for (fields, header, expected) in [
        (vec![("client_id", id), ("client_secret", secret)], String::new(), None),
        (vec![], basic(id, secret), None),
        (
            vec![("client_id", id), ("client_secret", secret)],
            basic(id, secret),
            Some((400, "invalid_request", 90_023)),
        ),
        (
            vec![("client_id", id), ("client_secret", "wrong")],
            String::new(),
            Some((401, "invalid_client", 7_000_215)),
        ),
        (vec![("client_id", id)], String::new(), Some((401, "invalid_client", 7_000_218))),
        (vec![], basic(id, "wrong"), Some((401, "invalid_client", 7_000_215))),
        (vec![("client_id", public)], String::new(), Some((401, "invalid_client", 7_000_218))),
        (
            vec![("client_id", public), ("client_secret", "x")],
            String::new(),
            Some((401, "invalid_client", 700_025)),
        ),
        (vec![("client_id", "nobody")], String::new(), Some((400, "unauthorized_client", 700_016))),
        (vec![], String::new(), Some((400, "invalid_request", 900_144))),
    ] {
        let fields = [&[grant, ("scope", scope)][..], &fields].concat();
        let answer = post(&sim, &fields, &header).await;
        match expected {
            None => {
                let json = answer.json();
                assert_eq!(json["access_token"].as_str().unwrap().len(), 1_600);
                assert!(json["refresh_token"].is_null() && json["scope"].is_null());
            }
            Some((status, error, number)) => {
                assert_eq!(answer.error(), (status, error.to_owned(), number), "{fields:?}");
            }
        }
    }
    let secret = [("client_id", id), ("client_secret", secret)];
    let wide =
        [&[grant, ("scope", "https://outlook.office365.com/SMTP.Send")][..], &secret].concat();
    assert_eq!(post(&sim, &wide, "").await.error().1, "invalid_scope");
    let other = [&[("grant_type", "password"), ("scope", scope)][..], &secret].concat();
    assert_eq!(post(&sim, &other, "").await.error().1, "unsupported_grant_type");
    assert_eq!(get(&sim, &sim.token_url()).await.error().2, 900_561);
    assert_eq!(sim.counts().token_requests_of("password"), 1);
    sim.stop().await;
}

#[tokio::test]
async fn https_with_the_private_authority() {
    let sim = Sim::start(SimOptions { https: true, ..Default::default() }).await.unwrap();
    assert_eq!(sim.token_url().scheme(), "https");
    assert_eq!(sim.token_url().host_str(), Some("localhost"));
    assert_eq!(redeem(&sim, &code(&sim).await).await.status, 200);
    sim.stop().await;
}

#[tokio::test]
async fn errors_of_gmail_look_like_googles() {
    let sim = Sim::start(SimOptions::gmail()).await.unwrap();
    let json = refresh(&sim, "made-up").await.json();
    assert_eq!(json["error"], "invalid_grant");
    assert!(json["error_codes"].is_null());
    sim.stop().await;
}

#[tokio::test]
async fn the_configuration_reader_takes_the_text() {
    let limitless = SimOptions { limits: SimLimits::none(), ..Default::default() };
    for options in
        [SimOptions::default(), limitless, SimOptions { https: true, ..Default::default() }]
    {
        let sim = Sim::start(options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (ca, secret) = (folder.path().join("ca.pem"), folder.path().join("secret"));
        std::fs::write(&ca, sim.ca_pem()).unwrap();
        let app = sim.app_client().unwrap();
        std::fs::write(&secret, app.secret.as_ref().unwrap().expose()).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[server]\nhostname = \"relay.example\"\ndata_dir = {:?}\n\n[[listener]]\naddress = \
             \"127.0.0.1:0\"\ntls = \"off\"\nauth = \"off\"\n[[listener.network]]\nfrom = \
             [\"127.0.0.1/32\"]\naccount = \"{USER}\"\n[[listener.network]]\nfrom = \
             [\"127.0.0.2/32\"]\naccount = \"erp@contoso.com\"\n\n{}\n{}\n{}\n{}",
            folder.path().join("data"),
            sim.provider_toml(&ca),
            sim.app_provider_toml(&ca),
            sim.account_toml(USER),
            sim.app_account_toml("erp@contoso.com", &secret),
        );
        let config = mailbearer::config::parse(&text, &folder.path().join("mailbearer.toml"));
        let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
        assert_eq!(config.accounts.len(), 2);
        for account in &config.accounts {
            assert_eq!(account.provider.smtp.port, sim.smtp_address().port());
            assert_eq!(account.provider.token_url, sim.token_url());
        }
        sim.stop().await;
    }
}

#[tokio::test]
async fn configuration_text_points_at_the_services() {
    let sim = sim().await;
    let ca = Path::new("/tmp/ca.pem");
    let text = format!(
        "{}\n{}\n{}delivery = \"queue\"\n\n{}",
        sim.provider_toml(ca),
        sim.app_provider_toml(ca),
        sim.account_toml(USER),
        sim.app_account_toml("erp@contoso.com", Path::new("/tmp/secret")),
    );
    let table: toml::Table = text.parse().unwrap();
    let provider = &table["provider"][0];
    let port = i64::from(sim.smtp_address().port());
    assert_eq!(provider["name"].as_str(), Some("sim"));
    assert_eq!(provider["smtp"]["port"].as_integer(), Some(port));
    assert_eq!(provider["smtp"]["host"].as_str(), Some("localhost"));
    assert_eq!(provider["smtp"]["tls"].as_str(), Some("starttls"));
    assert_eq!(provider["authorize_url"].as_str(), Some(sim.authorize_url().as_str()));
    assert_eq!(provider["token_url"].as_str(), Some(sim.token_url().as_str()));
    assert_eq!(provider["ca_file"].as_str(), Some("/tmp/ca.pem"));
    assert_eq!(provider["limits"]["sessions"].as_integer(), Some(3));
    assert_eq!(provider["scopes"][1].as_str(), Some("offline_access"));
    let app = &table["provider"][1];
    assert_eq!(app["scopes"][0].as_str(), Some("https://outlook.office365.com/.default"));
    assert!(app.get("authorize_url").is_none());
    let account = &table["account"][0];
    assert_eq!(account["grant"].as_str(), Some("authorization_code"));
    assert_eq!(account["delivery"].as_str(), Some("queue"), "more keys may follow");
    assert_eq!(table["account"][1]["client_secret"]["file"].as_str(), Some("/tmp/secret"));
    sim.stop().await;
}

#[tokio::test]
async fn a_code_for_another_device_is_typed_on_a_page() {
    let grant_type = "urn:ietf:params:oauth:grant-type:device_code";
    let sim = sim().await;
    let client = &sim.client().unwrap().id;
    let asked =
        post_to(&sim, &sim.device_url(), &[("client_id", client), ("scope", SCOPE)], "").await;
    let json = asked.json();
    assert_eq!(
        (asked.status, &json["expires_in"], &json["interval"]),
        (200, &900.into(), &5.into())
    );
    assert!(json["verification_uri_complete"].is_null(), "Entra has none");
    let user_code = json["user_code"].as_str().unwrap();
    let poll = [
        ("grant_type", grant_type),
        ("client_id", client),
        ("device_code", json["device_code"].as_str().unwrap()),
    ];
    let answer = post(&sim, &poll, "").await;
    assert_eq!(answer.error(), (400, "authorization_pending".to_owned(), 70_016));
    let answer = post(&sim, &poll, "").await;
    assert_eq!(answer.error().1, "slow_down");

    let mut page: url::Url = json["verification_uri"].as_str().unwrap().parse().unwrap();
    let empty = get(&sim, &page).await;
    assert!(empty.body.contains("name=\"user_code\"") && empty.body.contains(USER));
    page.query_pairs_mut().append_pair("user_code", "wrong").append_pair("signed_in", USER);
    assert_eq!(get(&sim, &page).await.status, 400);
    page.query_pairs_mut().clear().append_pair("user_code", user_code);
    page.query_pairs_mut().append_pair("signed_in", USER);
    assert_eq!(get(&sim, &page).await.status, 200);
    sim.stop().await;
}

#[tokio::test]
async fn google_lets_no_other_device_send_mail() {
    let sim = Sim::start(SimOptions::gmail()).await.unwrap();
    let client = &sim.client().unwrap().id;
    let fields = [("client_id", client.as_str()), ("scope", "https://mail.google.com/")];
    let refused = post_to(&sim, &sim.device_url(), &fields, "").await;
    assert_eq!((refused.status, &refused.json()["error"]), (400, &"invalid_scope".into()));
    assert!(sim.user_codes().is_empty());
    sim.stop().await;
}
