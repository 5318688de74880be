//! README.md's table of models, generated from what the crates declare.

use anyhow::{Context, Result};
use lab::model::{self, Model};

use super::{Problem, Source};

const BEGIN: &str = "<!-- models -->\n";
const END: &str = "<!-- /models -->\n";

/// A row for each model, in reading order, the columns aligned.
pub fn table(models: &[Model]) -> String {
    let header = ["model", "family", "variants", "clients", "serves", "how"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(models.iter().map(row));
    let widths: [usize; 6] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].len()).max().unwrap_or(0)
    });
    rows.insert(1, widths.map(|width| "-".repeat(width)));
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!(" {cell:width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    rows.iter().map(line).collect()
}

fn row(model: &Model) -> [String; 6] {
    let names: Vec<_> =
        model.variants.iter().map(|v| v.name.as_str()).collect();
    let mut serves = model::names(&model.transports);
    for variant in &model.variants {
        if let Some(narrow) = &variant.transports {
            let narrow = model::names(narrow);
            serves += &format!(" ({}: {narrow})", variant.name);
        }
    }
    [
        format!("[{0}]({0}/src/main.rs)", model.name),
        model.family.to_string(),
        names.join(", "),
        model.clients.to_string(),
        serves,
        model.summary.clone(),
    ]
}

/// The table in README.md is the one that the crates make.
pub fn check(source: &Source, table: &str) -> Option<Problem> {
    let remedy = "run `cargo xtask tidy --fix`";
    match with_table(&source.text, table) {
        Ok(text) if text == source.text => None,
        Ok(_) => {
            let before = source.text.split(BEGIN).next().unwrap_or_default();
            let line = before.lines().count() + 1;
            let wrong = "the table of models is not what the crates declare";
            Some(Problem::new(source, line, wrong, remedy))
        }
        Err(error) => {
            let remedy = "put both markers where the table belongs";
            Some(Problem::new(source, 1, format!("{error:#}"), remedy))
        }
    }
}

/// The text with the table between its markers.
pub fn with_table(text: &str, table: &str) -> Result<String> {
    let missing = |marker: &str| format!("there is no line {}", marker.trim());
    let (before, rest) =
        text.split_once(BEGIN).with_context(|| missing(BEGIN))?;
    let (_, after) = rest.split_once(END).with_context(|| missing(END))?;
    Ok(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use lab::model::Workspace;

    use super::*;

    const README: &str =
        "# Title\n\n<!-- models -->\nold\n<!-- /models -->\nend\n";

    #[test]
    fn the_table_has_a_row_for_each_model() {
        let workspace = Workspace::load().unwrap();
        let model = workspace.model("async-io").unwrap();
        let table = table(std::slice::from_ref(model));
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[2],
            "| [async-io](async-io/src/main.rs) | asynchronous | io-uring, \
             posix-aio | many    | tcp udp (posix-aio: tcp) | One thread \
             submits operations, and completions bring the data |"
        );
        assert!(lines.iter().all(|line| line.len() == lines[0].len()));
    }

    #[test]
    fn an_old_table_is_found_and_replaced() {
        let problem = check(&Source::sample("README.md", README), "new\n");
        assert_eq!(problem.map(|p| p.line), Some(3));
        let text = with_table(README, "new\n").unwrap();
        assert_eq!(
            text,
            "# Title\n\n<!-- models -->\n\nnew\n\n<!-- /models -->\nend\n"
        );
        assert_eq!(check(&Source::sample("README.md", &text), "new\n"), None);
    }

    #[test]
    fn missing_markers_are_named() {
        let source = Source::sample("README.md", "# Title\n");
        let problem = check(&source, "new\n").unwrap();
        assert_eq!(problem.wrong, "there is no line <!-- models -->");
    }
}
