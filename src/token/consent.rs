//! A person signs in.
//!
//! Owns [`Consent`]: the authorization code flow with PKCE and a redirect to this machine, or with
//! the redirect's address pasted where the browser runs somewhere else. What it obtains goes into
//! the store and nowhere else. Sources: RFC 6749 §4.1, RFC 7636, RFC 8252, RFC 9700 §2.1.

use std::fmt;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::{Instant, timeout_at};
use url::Url;
use zeroize::Zeroizing;

use crate::base::{Clock, Secret, Timestamp, limits};
use crate::config::{Account, AccountName};
use crate::net::{HttpClient, HttpPatience, HttpSetupError};
use crate::oauth::{
    AuthorizationRequest, Grant, IdTokenError, RedirectError, Refusal, RequestError, TokenAnswer,
    authorization_parameters, authorization_url, code_request, pasted_redirect,
};
use crate::store::{NewGrant, Origin, Store, StoreError};
use crate::token::binding::binding;
use crate::token::identity::{identify, sign_in_scopes};
use crate::token::loopback::{ExpectedRedirect, Loopback};
use crate::token::manager::exchange;
use crate::token::pace::TokenPace;

/// Times that a renewal may come between reading the old grant and storing the new one.
const STORE_TRIES: u32 = 5;

/// One sign-in in progress. It ends with [`Consent::finish`] or by being dropped.
pub struct Consent {
    account: Arc<Account>,
    store: Store,
    clock: Clock,
    http: HttpClient,
    loopback: Loopback,
    redirect: Url,
    url: Url,
    verifier: Secret,
    expected: Arc<ExpectedRedirect>,
    nonce: Option<Secret>,
    deadline: Instant,
    code: Option<Secret>,
}

/// What a sign-in has brought. It is in the store by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consented {
    /// The account.
    pub account: AccountName,
    /// The address of whoever signed in, which is who was to; none if the provider does not say.
    pub signed_in: Option<String>,
    /// When the first access token ends; it is renewed before.
    pub expires_at: Timestamp,
    /// The version of the stored grant, which is the generation of its token.
    pub generation: u64,
}

impl Consent {
    /// Starts a sign-in: binds a port of the loopback address and makes the URL.
    pub async fn begin(
        account: &Arc<Account>,
        store: &Store,
        clock: &Clock,
    ) -> Result<Self, ConsentError> {
        match account.grant {
            Grant::AuthorizationCode => {}
            Grant::DeviceCode => {
                return Err(ConsentError::OnAnotherDevice { account: account.name.clone() });
            }
            grant @ Grant::ClientCredentials => {
                return Err(ConsentError::NotNeeded { account: account.name.clone(), grant });
            }
        }
        let endpoint = account.provider.authorize_url.as_ref().ok_or_else(|| {
            ConsentError::NowhereToSignIn { provider: account.provider.name.clone() }
        })?;
        let http = HttpClient::new(account.provider.ca_file.as_deref(), HttpPatience::default())?;
        let loopback = Loopback::bind().await.map_err(ConsentError::Loopback)?;
        let redirect = pasted_redirect(&account.provider.name).unwrap_or_else(|| {
            // `localhost`, not 127.0.0.1: Entra lets any port follow only that name.
            let redirect = format!("http://localhost:{}/", loopback.port());
            Url::parse(&redirect).expect("a name and a port number are a URL")
        });
        let (verifier, state) = (random_text()?, random_text()?);
        let scopes = sign_in_scopes(account);
        // Only who is asked for an ID token sends the nonce back.
        let nonce = match scopes.iter().any(|scope| scope == "openid") {
            true => Some(random_text()?),
            false => None,
        };
        let url = authorization_url(&AuthorizationRequest {
            endpoint,
            client: &account.client,
            redirect: &redirect,
            scopes: &scopes,
            verifier: &verifier,
            state: &state,
            nonce: nonce.as_ref(),
            login_hint: Some(account.user().as_str()),
            extra: authorization_parameters(&account.provider.name),
        })?;
        Ok(Self {
            account: account.clone(),
            store: store.clone(),
            clock: clock.clone(),
            http,
            loopback,
            redirect,
            url,
            verifier,
            expected: Arc::new(ExpectedRedirect { state, issuer: account.provider.issuer.clone() }),
            nonce,
            deadline: Instant::now() + limits::CONSENT,
            code: None,
        })
    }

    /// Where the person has to go. It holds the state, which is of use only to who is redirected.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where the browser ends. If that is https, nobody here sees it come: it has to be pasted.
    pub fn redirect(&self) -> &Url {
        &self.redirect
    }

    /// Waits until the browser has come back. May be dropped and called again, so that a command
    /// line can wait for a pasted address at the same time.
    pub async fn wait(&mut self) -> Result<(), ConsentError> {
        if self.code.is_none() {
            let redirect = self.loopback.redirect(&self.expected);
            let code = timeout_at(self.deadline, redirect).await;
            self.code = Some(code.map_err(|_| ConsentError::TimedOut)??);
        }
        Ok(())
    }

    /// Takes the address at which the browser ended. After an error another one may be pasted.
    pub fn paste(&mut self, text: &str) -> Result<(), ConsentError> {
        if Instant::now() >= self.deadline {
            return Err(ConsentError::TimedOut);
        }
        self.code = Some(self.expected.read(text)?);
        Ok(())
    }

    /// Waits for the browser if it has not come back yet, redeems the code and stores the grant.
    pub async fn finish(mut self) -> Result<Consented, ConsentError> {
        self.wait().await?;
        self.redeem().await
    }

    /// The same with the address at which the browser ended.
    pub async fn finish_with_pasted(mut self, text: &str) -> Result<Consented, ConsentError> {
        self.paste(text)?;
        self.redeem().await
    }

    async fn redeem(self) -> Result<Consented, ConsentError> {
        let Account { provider, client, .. } = &*self.account;
        let code = self.code.as_ref().ok_or(ConsentError::TimedOut)?;
        let request =
            code_request(&provider.token_url, client, &self.redirect, code, &self.verifier)?;
        let asked_at = self.clock.now();
        let answer = exchange(&self.http, request).await?;
        let now = self.clock.now();
        let signed_in =
            identify(&self.account, answer.id_token.as_ref(), self.nonce.as_ref(), now)?;
        keep(&self.account, &self.store, answer, signed_in, asked_at).await
    }
}

/// Stores what a sign-in has brought, if it can be renewed.
pub(super) async fn keep(
    account: &Account,
    store: &Store,
    answer: TokenAnswer,
    signed_in: Option<String>,
    asked_at: Timestamp,
) -> Result<Consented, ConsentError> {
    let Account { provider, name, .. } = account;
    if answer.refresh_token.is_none() {
        return Err(ConsentError::NothingToRenew { scopes: provider.scopes.join(" ") });
    }
    let expires_at = asked_at + TokenPace::life(answer.expires_in);
    let grant = NewGrant {
        refresh_token: answer.refresh_token,
        access_token: Some(answer.access_token),
        expires_at: Some(expires_at),
        obtained_at: asked_at,
        obtained_by: signed_in.clone(),
        retired: None,
        origin: Some(Origin {
            how: account.grant.as_str().to_owned(),
            at: asked_at,
            bound_to: binding(account),
        }),
    };
    let generation = put_grant(store, name.as_str(), grant).await?;
    tracing::info!(account = %name, grant = %account.grant, event = "signed_in", %expires_at, "token");
    Ok(Consented { account: name.clone(), signed_in, expires_at, generation })
}

/// Stores a new grant whatever is there: a person's word is newer than any renewal.
pub(super) async fn put_grant(
    store: &Store,
    account: &str,
    grant: NewGrant,
) -> Result<u64, ConsentError> {
    let mut tries = 0;
    loop {
        let expected = match store.grant(account).await {
            Ok(stored) => stored.map_or(0, |stored| stored.version),
            // What cannot be opened can only be replaced.
            Err(StoreError::WrongKey { .. } | StoreError::Damaged { .. }) => {
                store.remove_grant(account).await?;
                0
            }
            Err(error) => return Err(error.into()),
        };
        match store.put_grant(account, expected, grant.clone()).await {
            Err(StoreError::Conflict { .. }) if tries < STORE_TRIES => tries += 1,
            stored => return Ok(stored?),
        }
    }
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consent")
            .field("account", &self.account.name)
            .field("redirect", &self.redirect.as_str())
            .finish_non_exhaustive()
    }
}

/// 256 random bits as 43 characters that may stand in a URL: RFC 7636 §4.1, RFC 9700 §2.1.
fn random_text() -> Result<Secret, ConsentError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|error| ConsentError::Random(error.to_string()))?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(&bytes[..])))
}

/// Why a sign-in has brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ConsentError {
    /// The account obtains its tokens without a person.
    #[error("{account} uses the grant {grant}: nobody has to sign in, `mailbearer serve` does it")]
    NotNeeded {
        /// The account.
        account: AccountName,
        /// Its grant.
        grant: Grant,
    },
    /// The account's person signs in on another device, which is another flow.
    #[error("{account} uses the grant device_code: its sign-in has no browser on this machine")]
    OnAnotherDevice {
        /// The account.
        account: AccountName,
    },
    /// The provider has no page to sign in at.
    #[error("provider {provider} has no authorize_url in the configuration")]
    NowhereToSignIn {
        /// The provider.
        provider: String,
    },
    /// The provider has no sign-in on another device.
    #[error("{provider} has no sign-in with a code on another device: {reason}")]
    NoDevice {
        /// The provider.
        provider: String,
        /// Why not.
        reason: &'static str,
    },
    /// Whoever was asked said no.
    #[error("the sign-in was declined; nothing was stored")]
    Declined,
    /// Nobody typed the code in time.
    #[error("the code has expired before anybody signed in with it; start again")]
    CodeExpired,
    /// No port could be bound.
    #[error("cannot listen on 127.0.0.1 for the browser to come back: {0}")]
    Loopback(io::Error),
    /// No random numbers.
    #[error("the operating system has no random numbers: {0}")]
    Random(String),
    /// HTTP cannot be set up.
    #[error(transparent)]
    Http(#[from] HttpSetupError),
    /// The request cannot be written.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Nobody came back in [`limits::CONSENT`].
    #[error("nobody signed in within {} minutes; start again", limits::CONSENT.as_secs() / 60)]
    TimedOut,
    /// The browser came back without a code, or the pasted text is not what was asked for.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The code was not redeemed. It can be used once only, so the sign-in starts again.
    #[error("the provider did not hand out a token: {0}")]
    Refused(#[from] Refusal),
    /// Somebody else signed in.
    #[error(
        "{signed_in} signed in, and {wanted} was to, so nothing was stored. Sign in again as \
         {wanted} (in a private window, if the browser does not ask who you are). If {signed_in} may \
         send as {mailbox} and shall do so, write signs_in_as = \"{signed_in}\" into its [[account]]"
    )]
    SomebodyElse {
        /// Who signed in, safe to show.
        signed_in: String,
        /// Who was to.
        wanted: String,
        /// Whose mail it is about.
        mailbox: String,
    },
    /// The provider did not say who signed in, although it is one that does.
    #[error(
        "{provider} did not say who signed in, so nothing was stored; sign in again and agree to \
         all that is asked for"
    )]
    Nobody {
        /// The provider.
        provider: String,
    },
    /// What the provider said about who signed in is not for us.
    #[error("{0}, so nothing was stored; sign in again")]
    IdToken(#[from] IdTokenError),
    /// There is no refresh token, so mail would stop when the access token ends.
    #[error(
        "the provider handed out no refresh token, so nothing was stored: mail would stop within \
         the hour; ask for the scope that allows renewal (offline_access at Microsoft) and check \
         that no policy forbids it; asked for: {scopes}"
    )]
    NothingToRenew {
        /// The scopes that were asked for.
        scopes: String,
    },
    /// The grant was obtained and could not be stored.
    #[error("the grant cannot be stored: {0}")]
    Store(#[from] StoreError),
}
