//! Floor 1: OAuth 2.0 as values: what to ask a token endpoint, and what its answer means.
//!
//! Owns the provider presets, the requests of every grant, the reading of answers and redirects,
//! the hints that turn a provider's error into a next step, who signed in, and the XOAUTH2 and
//! OAUTHBEARER strings. It has no
//! socket, no clock, no log and no random numbers: verifier and state are handed in, requests are
//! handed out. Sources: RFC 6749, RFC 7636, RFC 8252, RFC 7628, RFC 8628 and Google's
//! XOAUTH2 page.
//!
//! Invariants:
//! 1. No type here shows a secret in `Debug` or `Display`.
//! 2. Only `error` of an answer decides; numbers and descriptions are hints for people.
//! 3. What cannot be understood is [`Refusal::NotNow`]: it never costs a refresh token.

mod answer;
mod device;
mod grant;
mod hint;
mod identity;
mod mechanism;
mod oauthbearer;
mod presets;
mod provider;
mod redirect;
mod request;
mod xoauth2;

pub use answer::{Refusal, TokenAnswer, read_answer};
pub use device::{
    DeviceCode, DevicePoll, device_code_request, device_token_request, read_device_code,
    read_device_poll,
};
pub use grant::{ClientRegistration, Endpoints, Grant, UnknownGrant};
pub use hint::{Hint, hint};
pub use identity::{ExpectedIdToken, IdTokenError, SignedIn, read_id_token, token_claims};
pub use mechanism::Mechanism;
pub use oauthbearer::oauthbearer;
pub use provider::{
    Cloud, LimitsSource, PROVIDER_NAMES, PresetError, ProviderPreset, SubmissionLimits,
    SubmissionTls, authorization_parameters, every_preset, identity_scopes, issuer,
    pasted_redirect, preset, revocation_url,
};
pub use redirect::{RedirectError, read_redirect};
pub use request::{
    AuthorizationRequest, HttpRequest, RequestError, authorization_url, client_credentials_request,
    code_request, refresh_request, revocation_request,
};
pub use xoauth2::{SaslError, xoauth2};
