//! What names may be: `apimachinery/pkg/util/validation/validation.go`.

/// RFC 1123: what a namespace, a Service or a port may be called (`IsDNS1123Label`). Service names had to begin with
/// a letter before 1.36; nothing that a proxy does depends on it.
pub(in super::super) fn is_dns_label(name: &str) -> bool {
    name.len() <= 63 && is_dns_part(name)
}

/// RFC 1123: parts with dots between them (`IsDNS1123Subdomain`).
pub(in super::super) fn is_dns_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_part)
}

fn is_dns_part(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('-') && !part.ends_with('-')
}

/// RFC 6335: what a container's port may be called (`IsValidPortName`).
pub(in super::super) fn is_service_name(name: &str) -> bool {
    name.len() <= 15
        && is_dns_part(name)
        && !name.contains("--")
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::{is_dns_label, is_dns_name, is_service_name};

    #[test]
    fn names_are_judged_as_the_api_server_does() {
        let long = "a".repeat(63);
        for label in ["a", "0", "a-b", "1-2", &long] {
            assert!(is_dns_label(label) && is_dns_name(label), "{label}");
        }
        for wrong in ["", "-a", "a-", "A", "a_b", "a b", "a\n", "a\"", "ä", &"a".repeat(64)] {
            assert!(!is_dns_label(wrong), "{wrong:?}");
        }
        assert!(is_dns_name("a.b-c.0") && !is_dns_name("a..b") && !is_dns_name(".a") && !is_dns_name("a."));
        assert!(!is_dns_name(&format!("{}a", "a.".repeat(127))));
        for name in ["http", "p-0", "a", "1a"] {
            assert!(is_service_name(name), "{name}");
        }
        for wrong in ["80", "a--b", "Http", "longer-than-fifteen", "-a", ""] {
            assert!(!is_service_name(wrong), "{wrong}");
        }
    }
}
