//! Generates README.md's table of models from the crates' manifests.

use anyhow::{Context, Result};
use lab::model::Model;

use super::{Problem, Source};

const BEGIN: &str = "<!-- models -->\n";
const END: &str = "<!-- /models -->\n";

/// Makes a row for each model, in reading order, with aligned columns.
pub fn table(models: &[Model]) -> String {
    let header = ["chapter", "minimal program", "how it works"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(models.iter().map(row));
    let widths: [usize; 3] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].len()).max().unwrap_or(0)
    });
    rows.insert(1, widths.map(|width| "-".repeat(width)));
    let line = |row: &[String; 3]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!(" {cell:width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    rows.iter().map(line).collect()
}

fn row(model: &Model) -> [String; 3] {
    let name = &model.name;
    let minimal = model.variants.iter().filter_map(|variant| {
        let example = model.minimal(variant)?;
        let label = match variant.name.as_str() {
            "" => "minimal",
            variant => variant,
        };
        Some(format!("[{label}]({name}/examples/{example}.rs)"))
    });
    [
        format!("[{name}]({name}/src/main.rs)"),
        minimal.collect::<Vec<_>>().join(", "),
        model.summary.clone(),
    ]
}

/// Checks that README.md contains the generated table.
pub fn check(source: &Source, table: &str) -> Option<Problem> {
    let remedy = "run `cargo xtask tidy --fix`";
    match with_table(&source.text, table) {
        Ok(text) if text == source.text => None,
        Ok(_) => {
            let before = source.text.split(BEGIN).next().unwrap_or_default();
            let line = before.lines().count() + 1;
            let wrong = "the table of models differs from the manifests";
            Some(Problem::new(source, line, wrong, remedy))
        }
        Err(error) => {
            let remedy = "put both markers around the place for the table";
            Some(Problem::new(source, 1, format!("{error:#}"), remedy))
        }
    }
}

/// Returns the text with the table between the markers.
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
            "| [async-io](async-io/src/main.rs) | \
             [io-uring](async-io/examples/minimal_io_uring.rs), \
             [posix-aio](async-io/examples/minimal_posix_aio.rs) | One thread \
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
