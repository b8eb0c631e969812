//! Reading a quota: characters to tokens, tokens to conditions, each with its place.

use super::{Allowed, Bounds, Condition, MODEL_VALID, Quantity, QuotaError, QuotaProblem};

/// Begins a condition.
const CONDITION: &str = "a name such as flops, or a number";
const OPERATOR: &str = "<, <=, >, >=, == or in";
const COMPARISON: &str = "<, <=, >, >= or ==";
const NUMBER: &str = "a number";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Below,
    AtMost,
    Above,
    AtLeast,
    Exactly,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Number(String),
    Operator(Operator),
    Symbol(char),
    End,
}

/// A token with its place and its own characters.
#[derive(Debug, Clone, PartialEq)]
struct Placed {
    at: usize,
    text: String,
    token: Token,
}

/// The conditions that `text` says; none where it is `model_valid` alone.
pub(super) fn quota(text: &str) -> Result<Vec<Condition>, QuotaError> {
    let mut reader = Reader { tokens: tokens(text), next: 0 };
    let mut conditions: Vec<Condition> = Vec::new();
    loop {
        let at = reader.peek().at;
        if let Some(condition) = reader.condition()? {
            let own = conditions.iter().filter(|other| other.quantity == condition.quantity).chain([&condition]);
            let bounds = own.map(|condition| Bounds::of(condition.allowed)).try_fold(Bounds::ANY, Bounds::and);
            if bounds.is_none() {
                return Err(QuotaError { at, why: QuotaProblem::Impossible { condition } });
            }
            conditions.push(condition);
        }
        let next = reader.take();
        match &next.token {
            Token::End => return Ok(conditions),
            Token::Name(word) if word == "and" => {}
            _ => return Err(unexpected(&next, "`and` or the end")),
        }
    }
}

fn tokens(text: &str) -> Vec<Placed> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = characters.get(at) {
        if first.is_whitespace() {
            at += 1;
            continue;
        }
        let rest = &characters[at..];
        let length = match first {
            'a'..='z' | 'A'..='Z' | '_' => count(rest, |c| c.is_ascii_alphanumeric() || c == '_'),
            '0'..='9' | '.' | '-' | '+' => number(rest),
            '<' | '>' | '=' if rest.get(1) == Some(&'=') => 2,
            _ => 1,
        };
        let text: String = rest[..length].iter().collect();
        let token = match (first, text.as_str()) {
            (_, "<") => Token::Operator(Operator::Below),
            (_, "<=") => Token::Operator(Operator::AtMost),
            (_, ">") => Token::Operator(Operator::Above),
            (_, ">=") => Token::Operator(Operator::AtLeast),
            (_, "==") => Token::Operator(Operator::Exactly),
            ('a'..='z' | 'A'..='Z' | '_', _) => Token::Name(text.clone()),
            ('0'..='9' | '.' | '-' | '+', _) => Token::Number(text.clone()),
            (symbol, _) => Token::Symbol(symbol),
        };
        tokens.push(Placed { at: at + 1, text, token });
        at += length;
    }
    tokens.push(Placed { at: characters.len() + 1, text: String::new(), token: Token::End });
    tokens
}

fn count(characters: &[char], is_part: impl Fn(char) -> bool) -> usize {
    characters.iter().take_while(|c| is_part(**c)).count()
}

/// The length of what begins like a number: sign, digits and points, and an exponent if there is one.
fn number(characters: &[char]) -> usize {
    let sign = |at: usize| usize::from(matches!(characters.get(at), Some('-' | '+')));
    let start = sign(0);
    let mantissa = start + count(&characters[start..], |c| c.is_ascii_digit() || c == '.');
    if !matches!(characters.get(mantissa), Some('e' | 'E')) {
        return mantissa;
    }
    let digits = mantissa + 1 + sign(mantissa + 1);
    match characters.get(digits..).map_or(0, |rest| count(rest, |c| c.is_ascii_digit())) {
        0 => mantissa,
        exponent => digits + exponent,
    }
}

fn unexpected(token: &Placed, expected: &'static str) -> QuotaError {
    let found = match token.token {
        Token::End => "the end".to_owned(),
        _ => format!("`{}`", token.text),
    };
    QuotaError { at: token.at, why: QuotaProblem::Unexpected { found, expected } }
}

struct Reader {
    /// The last one is [`Token::End`].
    tokens: Vec<Placed>,
    next: usize,
}

impl Reader {
    fn peek(&self) -> &Placed {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Placed {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    /// A condition; `None` for one that always holds.
    fn condition(&mut self) -> Result<Option<Condition>, QuotaError> {
        let first = self.peek().clone();
        match &first.token {
            Token::Name(name) if name == MODEL_VALID => {
                self.take();
                Ok(None)
            }
            Token::Name(name) if !matches!(name.as_str(), "and" | "in" | "or" | "not") => {
                let quantity = self.quantity()?;
                let operator = self.take();
                let allowed = match &operator.token {
                    Token::Name(word) if word == "in" => self.interval()?,
                    Token::Operator(operator) => allowed(*operator, self.number()?),
                    _ => return Err(unexpected(&operator, OPERATOR)),
                };
                Ok(Some(Condition { quantity, allowed }))
            }
            Token::Number(_) => {
                let bound = self.number()?;
                let operator = self.take();
                let Token::Operator(written) = operator.token else { return Err(unexpected(&operator, COMPARISON)) };
                let quantity = self.quantity()?;
                Ok(Some(Condition { quantity, allowed: allowed(written.turned_round(), bound) }))
            }
            _ => Err(unexpected(&first, CONDITION)),
        }
    }

    fn quantity(&mut self) -> Result<Quantity, QuotaError> {
        let token = self.take();
        let Token::Name(name) = &token.token else { return Err(unexpected(&token, "a name such as flops")) };
        let unknown = || QuotaError { at: token.at, why: QuotaProblem::UnknownName { name: name.clone() } };
        Quantity::named(name).ok_or_else(unknown)
    }

    fn number(&mut self) -> Result<f64, QuotaError> {
        let token = self.take();
        let Token::Number(text) = &token.token else { return Err(unexpected(&token, NUMBER)) };
        let value = text.parse().ok().filter(|value: &f64| value.is_finite());
        value.ok_or_else(|| QuotaError { at: token.at, why: QuotaProblem::Number { text: text.clone() } })
    }

    /// `[low, high]`.
    fn interval(&mut self) -> Result<Allowed, QuotaError> {
        self.symbol('[', "`[`")?;
        let low = self.number()?;
        self.symbol(',', "`,`")?;
        let high = self.number()?;
        self.symbol(']', "`]`")?;
        Ok(Allowed::Within(low, high))
    }

    fn symbol(&mut self, symbol: char, expected: &'static str) -> Result<(), QuotaError> {
        let token = self.take();
        if token.token == Token::Symbol(symbol) { Ok(()) } else { Err(unexpected(&token, expected)) }
    }
}

fn allowed(operator: Operator, bound: f64) -> Allowed {
    match operator {
        Operator::Below => Allowed::Below(bound),
        Operator::AtMost => Allowed::AtMost(bound),
        Operator::Above => Allowed::Above(bound),
        Operator::AtLeast => Allowed::AtLeast(bound),
        Operator::Exactly => Allowed::Exactly(bound),
    }
}

impl Operator {
    /// `5 > flops` is `flops < 5`.
    fn turned_round(self) -> Self {
        match self {
            Self::Below => Self::Above,
            Self::AtMost => Self::AtLeast,
            Self::Above => Self::Below,
            Self::AtLeast => Self::AtMost,
            Self::Exactly => Self::Exactly,
        }
    }
}
