//! Floor 1: OAuth 2.0 as values: what to ask a token endpoint, and what its answer means.
//!
//! Owns the provider presets, the requests of every grant, the reading of answers and redirects,
//! the hints that turn a provider's error into a next step, who signed in, and the XOAUTH2 string. It has no
//! socket, no clock, no log and no random numbers: verifier and state are handed in, requests are
//! handed out. Sources: RFC 6749, RFC 7636, RFC 8252 and Google's XOAUTH2 page.
//!
//! Invariants:
//! 1. No type here shows a secret in `Debug` or `Display`.
//! 2. Only `error` of an answer decides; numbers and descriptions are hints for people.
//! 3. What cannot be understood is [`Refusal::NotNow`]: it never costs a refresh token.

mod answer;
mod grant;
mod hint;
mod identity;
mod provider;
mod redirect;
mod request;
mod xoauth2;

pub use answer::{Refusal, TokenAnswer, read_answer};
pub use grant::{ClientRegistration, Endpoints, Grant, UnknownGrant};
pub use hint::{Hint, hint};
pub use identity::{ExpectedIdToken, IdTokenError, SignedIn, read_id_token, token_claims};
pub use provider::{
    PROVIDER_NAMES, PresetError, ProviderPreset, SubmissionLimits, SubmissionTls,
    authorization_parameters, identity_scopes, issuer, preset, revocation_url,
};
pub use redirect::{RedirectError, read_redirect};
pub use request::{
    AuthorizationRequest, HttpRequest, RequestError, authorization_url, client_credentials_request,
    code_request, refresh_request, revocation_request,
};
pub use xoauth2::{Xoauth2Error, xoauth2};
