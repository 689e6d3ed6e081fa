//! The router that helps with reflection.

use tuning::{Name, Values};

use super::Error;
use crate::client::Link;

/// The router that is named, if its link can be read.
pub(super) fn other_router(values: &Values) -> Option<Link> {
    values.link(Name::ReflectOtherRouter)?.parse().ok()
}

/// Whether the link is one.
pub(super) fn check(values: &Values) -> Result<(), Error> {
    let link = values.link(Name::ReflectOtherRouter);
    let read = link.map(str::parse::<Link>).transpose();
    read.map(|_| ()).map_err(|error| Error::OtherRouter { error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tuning::Layers;

    #[test]
    fn a_link_that_is_none_is_refused_with_the_form_of_one() {
        let refusal = |link: &str| {
            let sets = [format!("reflect/other_router={link}")];
            let values = Values::load(&Layers { sets: &sets, ..Layers::default() }).unwrap();
            check(&values).map_err(|error| error.to_string())
        };
        assert_eq!(refusal("off"), Ok(()));
        let wrong = "reflect/other_router: peer id of 2 characters: it is 64 hex digits, \
                     allowed: molia://PEER-ID@HOST:PORT?k=KEY, or off";
        assert_eq!(refusal("molia://ab@192.0.2.1:7743?k=cd"), Err(wrong.into()));
    }
}
