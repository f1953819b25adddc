//! The text of `compose.yaml`.

/// One service.
pub struct Service<'a> {
    pub name: &'a str,
    pub image: &'a str,
    pub port: u16,
    /// Files beside the compose file.
    pub model: &'a str,
    pub adapter: Option<&'a str>,
    pub context_length: u32,
}

/// Writes the file. The folder is mounted read-only; the port is open to this machine only.
pub fn write(service: &Service<'_>) -> String {
    let mut command = vec![
        "--model".to_owned(),
        format!("/models/{}", service.model),
        "--ctx-size".to_owned(),
        service.context_length.to_string(),
        "--alias".to_owned(),
        service.name.to_owned(),
        "--host".to_owned(),
        "0.0.0.0".to_owned(),
        "--port".to_owned(),
        "8080".to_owned(),
        "--jinja".to_owned(),
    ];
    if let Some(adapter) = service.adapter {
        command.extend(["--lora".to_owned(), format!("/models/{adapter}")]);
    }
    let command: Vec<String> = command.iter().map(|word| format!("      - {}\n", quoted(word))).collect();
    format!(
        "services:\n  model:\n    image: {}\n    ports:\n      - {}\n    volumes:\n      - .:/models:ro\n    command:\n{}",
        quoted(service.image),
        quoted(&format!("127.0.0.1:{}:8080", service.port)),
        command.concat()
    )
}

/// A YAML text in double quotes; a dollar is doubled, because compose would replace it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '$' => out.push_str("$$"),
            control if control.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole() {
        let service = Service {
            name: "tone \"$x\"\n",
            image: "server:1",
            port: 9000,
            model: "base.F16.gguf",
            adapter: Some("adapter.gguf"),
            context_length: 2048,
        };
        let expected = r#"services:
  model:
    image: "server:1"
    ports:
      - "127.0.0.1:9000:8080"
    volumes:
      - .:/models:ro
    command:
      - "--model"
      - "/models/base.F16.gguf"
      - "--ctx-size"
      - "2048"
      - "--alias"
      - "tone \"$$x\"\u000a"
      - "--host"
      - "0.0.0.0"
      - "--port"
      - "8080"
      - "--jinja"
      - "--lora"
      - "/models/adapter.gguf"
"#;
        assert_eq!(write(&service), expected);
    }
}
