//! Stripe's parameters, in bodies and queries: `application/x-www-form-urlencoded`, with `metadata[name]=value`.

use std::collections::BTreeMap;

use crate::failure::Failure;

/// The most entries of metadata, as Stripe has it.
const METADATA_MAX: usize = 50;

/// The most entries of a page, and how many there are unless the client says.
const LIMITS: (usize, usize) = (100, 10);

/// The parameters of a request. Each is taken once; [`Form::finish`] refuses what nobody took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form {
    fields: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
}

impl Form {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Failure> {
        let mut form = Self::default();
        for (name, value) in url::form_urlencoded::parse(body) {
            let (into, name) = match name.strip_prefix("metadata[").and_then(|name| name.strip_suffix(']')) {
                Some(name) => (&mut form.metadata, name),
                None => (&mut form.fields, &*name),
            };
            if into.insert(name.to_owned(), value.into_owned()).is_some() {
                return Err(Failure::param("parameter_invalid", name, format!("Given twice: {name}")));
            }
        }
        if form.metadata.len() > METADATA_MAX {
            return Err(Failure::param("parameter_invalid", "metadata", "Metadata can have up to 50 keys"));
        }
        Ok(form)
    }

    /// The parameters in one order, whatever order they came in: what an idempotency key is bound to.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(&self.fields);
        text.extend_pairs(self.metadata.iter().map(|(name, value)| (format!("metadata[{name}]"), value)));
        text.finish().into_bytes()
    }

    pub(crate) fn metadata(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.metadata)
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.fields.remove(name).filter(|value| !value.is_empty())
    }

    pub(crate) fn required(&mut self, name: &str) -> Result<String, Failure> {
        self.text(name).ok_or_else(|| missing(name))
    }

    /// An amount in minor units, at least 1.
    pub(crate) fn amount(&mut self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let amount = text.parse().ok().filter(|amount| *amount >= 1);
        amount.map(Some).ok_or_else(|| not_an_integer(name, &text))
    }

    /// A moment in seconds since 1970.
    pub(crate) fn second(&mut self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.text(name) else { return Ok(None) };
        // Room for the arithmetic of ranges; the last is in the year 9999.
        let second = text.parse().ok().filter(|second| (0..=253_402_300_799).contains(second));
        second.map(Some).ok_or_else(|| not_an_integer(name, &text))
    }

    /// How many entries a page has.
    pub(crate) fn limit(&mut self) -> Result<usize, Failure> {
        let (most, default) = LIMITS;
        let Some(text) = self.text("limit") else { return Ok(default) };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| not_an_integer("limit", &text))
    }

    /// Whether the one property that can be expanded here is asked for.
    pub(crate) fn expand(&mut self, property: &str) -> Result<bool, Failure> {
        let asked: Vec<String> =
            ["expand[]", "expand[0]"].iter().filter_map(|name| self.text(name)).collect();
        match asked.iter().find(|asked| *asked != property) {
            Some(other) => {
                let message = format!("This property cannot be expanded ({other})");
                Err(Failure::param("parameter_invalid", "expand", message))
            }
            None => Ok(!asked.is_empty()),
        }
    }

    /// One of a few words; the first is the default.
    pub(crate) fn choice(&mut self, name: &str, words: &[&'static str]) -> Result<&'static str, Failure> {
        let text = self.text(name);
        let word = text.as_deref().unwrap_or(words[0]);
        words.iter().find(|known| **known == word).copied().ok_or_else(|| not_one_of(name, words))
    }

    /// One of a few words, or nothing.
    pub(crate) fn one_of(&mut self, name: &str, words: &[&'static str]) -> Result<Option<String>, Failure> {
        let text = self.text(name);
        match &text {
            Some(word) if !words.contains(&word.as_str()) => Err(not_one_of(name, words)),
            Some(_) | None => Ok(text),
        }
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        let metadata = self.metadata.into_keys().map(|name| format!("metadata[{name}]"));
        let Some(name) = self.fields.into_keys().chain(metadata).next() else { return Ok(()) };
        Err(Failure::param("parameter_unknown", &name, format!("Received unknown parameter: {name}")))
    }
}

pub(crate) fn missing(name: &str) -> Failure {
    Failure::param("parameter_missing", name, format!("Missing required param: {name}"))
}

fn not_one_of(name: &str, words: &[&str]) -> Failure {
    Failure::param("parameter_invalid", name, format!("Must be one of {}", words.join(", ")))
}

fn not_an_integer(name: &str, text: &str) -> Failure {
    Failure::param("parameter_invalid_integer", name, format!("Invalid integer: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_parameters_does_not_count_and_their_values_do() {
        let one = Form::parse(b"amount=5&metadata%5Bb%5D=2&metadata[a]=1").unwrap();
        let two = Form::parse(b"metadata[a]=1&amount=5&metadata[b]=2").unwrap();
        assert_eq!(one.canonical(), two.canonical());
        assert_ne!(
            one.canonical(),
            Form::parse(b"metadata[a]=1&amount=6&metadata[b]=2").unwrap().canonical()
        );
    }

    #[test]
    fn wrong_parameters_are_named() {
        let code = |failure: Failure| failure.body()["error"]["code"].as_str().unwrap().to_owned();
        assert_eq!(code(Form::parse(b"a=1&a=2").unwrap_err()), "parameter_invalid");
        for wrong in ["0", "-5", "1.5", "ten"] {
            let mut form = Form::parse(format!("amount={wrong}").as_bytes()).unwrap();
            assert_eq!(code(form.amount("amount").unwrap_err()), "parameter_invalid_integer");
        }
        assert_eq!(code(Form::default().required("currency").unwrap_err()), "parameter_missing");
        for unknown in ["colour=red", "metadata[colour]=red"] {
            let form = Form::parse(unknown.as_bytes()).unwrap();
            assert_eq!(code(form.finish().unwrap_err()), "parameter_unknown", "{unknown}");
        }
    }
}
