//! What each command does in each seat.

use super::context::Context;
use super::event::{ServerEvent, SessionEnd};
use super::replies;
use super::settings::AuthOffer;
use super::state::{Question, Ready, Seat, State, Transaction};
use crate::base::{Secret, limits};
use crate::mail::{ForwardPath, MailParameters, ReversePath};
use crate::smtp::command::{Command, Verb};
use crate::smtp::sasl::{Exchange, Mechanism, SaslStep};

/// Carries out a command. `is_followed`: bytes came behind it that did not wait for the reply.
pub(super) fn carry_out(
    seat: Seat,
    command: Command,
    is_followed: bool,
    context: &mut Context,
) -> State {
    let lacks_tls = context.settings.require_tls && !context.tls_active;
    match command {
        Command::Quit => context.close(State::Commands(seat), replies::bye(), SessionEnd::Quit),
        Command::Ehlo { name } => hello(seat, name, true, context),
        Command::StartTls => start_tls(seat, is_followed, context),
        Command::Noop => {
            context.say(&replies::ok());
            State::Commands(seat)
        }
        Command::Auth { mechanism, initial_response } => {
            auth(seat, &mechanism, initial_response.as_ref(), is_followed, context)
        }
        // RFC 3207 §4: nothing else before TLS.
        Command::Helo { .. } | Command::Rset | Command::Help | Command::Vrfy | Command::Expn
            if lacks_tls =>
        {
            context.complain(State::Commands(seat), replies::tls_required())
        }
        Command::Mail { .. } | Command::Rcpt { .. } if lacks_tls => {
            context.complain(State::Commands(seat), replies::tls_required())
        }
        Command::Data if lacks_tls && !is_followed => {
            context.complain(State::Commands(seat), replies::tls_required())
        }
        Command::Helo { name } => hello(seat, name, false, context),
        Command::Rset => rset(seat, context),
        Command::Help => {
            context.say(&replies::help());
            State::Commands(seat)
        }
        Command::Vrfy => {
            context.say(&replies::cannot_verify());
            State::Commands(seat)
        }
        Command::Expn => context.complain(State::Commands(seat), replies::no_lists()),
        Command::Mail { reverse_path, parameters } => mail(seat, reverse_path, parameters, context),
        Command::Rcpt { forward_path } => rcpt(seat, forward_path, context),
        Command::Data => data(seat, is_followed, context),
    }
}

/// The one place where a verb at the wrong time is refused.
fn out_of_order(seat: Seat, verb: Verb, context: &mut Context) -> State {
    let reply = replies::out_of_order(verb, seat.expected());
    context.complain(State::Commands(seat), reply)
}

fn hello(seat: Seat, name: String, is_extended: bool, context: &mut Context) -> State {
    if matches!(seat, Seat::Transaction(_)) {
        context.tell(ServerEvent::Reset);
    }
    // A login survives: RFC 4954 does not ask for it, but older MailKit relies on it.
    let ready = seat.ready().copied().unwrap_or(Ready { is_authenticated: false });
    context.tell(ServerEvent::Hello { name, is_extended });
    context.say(&replies::hello(&context.settings, context.tls_active, is_extended));
    State::Commands(Seat::Ready(ready))
}

fn rset(seat: Seat, context: &mut Context) -> State {
    context.say(&replies::ok());
    State::Commands(match seat {
        Seat::Stranger | Seat::Ready(_) => seat,
        Seat::Transaction(transaction) => {
            context.tell(ServerEvent::Reset);
            Seat::Ready(transaction.ready)
        }
    })
}

fn start_tls(seat: Seat, is_followed: bool, context: &mut Context) -> State {
    if is_followed {
        // Whatever it is, it was sent in plaintext: CVE-2011-0411 and its kin.
        let reply = replies::not_waiting(Verb::StartTls);
        return context.close(State::Commands(seat), reply, SessionEnd::NotWaiting);
    }
    if context.tls_active {
        return context.complain(State::Commands(seat), replies::tls_already_active());
    }
    if !context.settings.starttls {
        return context.complain(State::Commands(seat), replies::tls_not_offered());
    }
    match seat {
        Seat::Ready(_) => {
            context.say(&replies::ready_for_tls());
            State::Handshake
        }
        Seat::Stranger | Seat::Transaction(_) => out_of_order(seat, Verb::StartTls, context),
    }
}

fn auth(
    seat: Seat,
    mechanism: &str,
    initial_response: Option<&Secret>,
    is_followed: bool,
    context: &mut Context,
) -> State {
    let settings = &context.settings;
    let needs_tls = settings.auth == AuthOffer::OnlyTls || settings.require_tls;
    let refusal = match settings.auth {
        AuthOffer::Never => Some(replies::auth_not_offered()),
        AuthOffer::OnlyTls | AuthOffer::Plaintext if needs_tls && !context.tls_active => {
            Some(replies::auth_needs_tls())
        }
        AuthOffer::OnlyTls | AuthOffer::Plaintext => None,
    };
    if let Some(reply) = refusal {
        return context.complain(State::Commands(seat), reply);
    }
    let ready = match seat {
        Seat::Ready(ready) if ready.is_authenticated => {
            return context.complain(State::Commands(seat), replies::already_authenticated());
        }
        Seat::Ready(ready) => ready,
        Seat::Stranger | Seat::Transaction(_) => return out_of_order(seat, Verb::Auth, context),
    };
    match Mechanism::parse(mechanism) {
        Some(mechanism) => {
            sasl_step(ready, Exchange::begin(mechanism, initial_response), is_followed, context)
        }
        None => context.complain(State::Commands(seat), replies::unknown_mechanism()),
    }
}

/// Goes on with an exchange, from the AUTH command or from a response.
pub(super) fn sasl_step(
    ready: Ready,
    step: SaslStep,
    is_followed: bool,
    context: &mut Context,
) -> State {
    let idle = State::Commands(Seat::Ready(ready));
    match step {
        // What already waits was not sent in reply to the prompt; eaten as a password it would
        // hide commands, and read as commands it would show a password.
        SaslStep::Challenge(..) if is_followed => {
            context.close(idle, replies::not_waiting(Verb::Auth), SessionEnd::NotWaiting)
        }
        SaslStep::Challenge(exchange, prompt) => {
            context.say(&replies::challenge(prompt));
            State::Exchange(ready, exchange)
        }
        SaslStep::Credentials { name, password } => {
            context.tell(ServerEvent::Authenticate { name, password });
            State::Asked(Question::Login(ready))
        }
        SaslStep::Fault(fault) => context.complain(idle, replies::sasl_fault(fault)),
    }
}

fn mail(
    seat: Seat,
    reverse_path: ReversePath,
    parameters: MailParameters,
    context: &mut Context,
) -> State {
    let ready = match seat {
        Seat::Ready(ready) => ready,
        Seat::Stranger | Seat::Transaction(_) => return out_of_order(seat, Verb::Mail, context),
    };
    let max_octets = context.settings.max_message_octets;
    let refusal = if context.settings.require_auth && !ready.is_authenticated {
        Some(replies::auth_required())
    } else if parameters.size.is_some_and(|size| size > max_octets) {
        Some(replies::message_too_large(max_octets))
    } else if !parameters.smtputf8 && !reverse_path.as_str().is_ascii() {
        Some(replies::needs_smtputf8())
    } else {
        None
    };
    if let Some(reply) = refusal {
        return context.complain(State::Commands(seat), reply);
    }
    let transaction = Transaction { ready, smtputf8: parameters.smtputf8, recipients: 0 };
    context.tell(ServerEvent::Mail { reverse_path, parameters });
    State::Asked(Question::Mail(transaction))
}

fn rcpt(seat: Seat, forward_path: ForwardPath, context: &mut Context) -> State {
    let transaction = match seat {
        Seat::Transaction(transaction) => transaction,
        Seat::Stranger | Seat::Ready(_) => return out_of_order(seat, Verb::Rcpt, context),
    };
    let refusal = if transaction.recipients >= limits::RECIPIENTS {
        Some(replies::too_many_recipients())
    } else if !transaction.smtputf8 && !forward_path.as_str().is_ascii() {
        Some(replies::needs_smtputf8())
    } else {
        None
    };
    if let Some(reply) = refusal {
        return context.complain(State::Commands(Seat::Transaction(transaction)), reply);
    }
    context.tell(ServerEvent::Recipient { forward_path });
    State::Asked(Question::Recipient(transaction))
}

fn data(seat: Seat, is_followed: bool, context: &mut Context) -> State {
    if is_followed {
        // RFC 2920 §3.1: DATA is the last of a group. If it were refused, the body that follows
        // would be run as commands.
        let reply = replies::not_waiting(Verb::Data);
        return context.close(State::Commands(seat), reply, SessionEnd::NotWaiting);
    }
    match seat {
        Seat::Stranger | Seat::Ready(_) => out_of_order(seat, Verb::Data, context),
        Seat::Transaction(transaction) if transaction.recipients == 0 => {
            let state = State::Commands(Seat::Transaction(transaction));
            context.complain(state, replies::no_recipients())
        }
        Seat::Transaction(transaction) => {
            context.tell(ServerEvent::Data);
            State::Asked(Question::Data(transaction))
        }
    }
}
