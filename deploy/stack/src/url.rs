//! The little that has to be known of a PostgreSQL URL.

/// The same server and user, another database. Parameters after `?` stay.
pub(crate) fn with_database(url: &str, name: &str) -> String {
    let (address, parameters) = match url.split_once('?') {
        Some((address, parameters)) => (address, format!("?{parameters}")),
        None => (url, String::new()),
    };
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..].find('/').map_or(address.len(), |at| authority + at);
    format!("{}/{name}{parameters}", &address[..end])
}

/// The URL with its password hidden, for logs and errors.
pub(crate) fn masked(url: &str) -> String {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let Some(at) = url[authority..].rfind('@').map(|at| authority + at) else { return url.to_owned() };
    let user = url[authority..at].split(':').next().unwrap_or_default();
    format!("{}{user}:***{}", &url[..authority], &url[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_is_replaced_and_parameters_stay() {
        assert_eq!(with_database("postgres://u:p@h:1/postgres", "x"), "postgres://u:p@h:1/x");
        assert_eq!(with_database("postgres://u:p@h:1", "x"), "postgres://u:p@h:1/x");
        assert_eq!(
            with_database("postgres://u@h/a?sslmode=disable", "x"),
            "postgres://u@h/x?sslmode=disable"
        );
    }

    #[test]
    fn password_is_hidden() {
        assert_eq!(masked("postgres://u:p@h:1/postgres"), "postgres://u:***@h:1/postgres");
        assert_eq!(masked("postgres://h/postgres"), "postgres://h/postgres");
    }
}
