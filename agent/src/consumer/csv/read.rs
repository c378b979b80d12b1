//! For tests: a strict reader of RFC 4180, which takes nothing that a lenient one would mend.

/// All records of a file, the header first.
pub fn read(bytes: &[u8]) -> Result<Vec<Vec<String>>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let (mut records, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let mut fields = Vec::new();
        loop {
            let (field, after) = field(rest)?;
            fields.push(field);
            if let Some(next) = after.strip_prefix(',') {
                rest = next;
            } else if let Some(next) = after.strip_prefix("\r\n") {
                rest = next;
                break;
            } else {
                return Err(format!("line {} does not end in CRLF: {after:.20?}", records.len() + 1));
            }
        }
        if records.first().is_some_and(|first: &Vec<String>| first.len() != fields.len()) {
            return Err(format!("line {} has {} fields", records.len() + 1, fields.len()));
        }
        records.push(fields);
    }
    Ok(records)
}

/// One field, and what follows it.
fn field(text: &str) -> Result<(String, &str), String> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([',', '\r', '\n', '"']).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut field = String::new();
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
}
