//! The frame of the page: its head and style, sections, tables, and the escaping of text.

/// A page of HTML that needs nothing but itself.
pub(super) fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// A section; `body` is HTML.
pub(super) fn section(id: &str, title: &str, body: &str) -> String {
    let title = escape(title);
    format!("<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>\n{body}</section>\n")
}

/// A paragraph of text.
pub(super) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// A figure with what its colors stand for; `svg` is HTML.
pub(super) fn figure(svg: &str, legend: &[(super::plot::Color, &str)]) -> String {
    let entry = |((color, _), name): &(super::plot::Color, &str)| {
        let name = escape(name);
        format!("<span><i style=\"background:{color}\"></i>{name}</span>\n")
    };
    let legend: String = legend.iter().map(entry).collect();
    format!("<figure>\n{svg}<figcaption>\n{legend}</figcaption>\n</figure>\n")
}

/// A table of texts. The first column names its rows.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: String = head
        .iter()
        .map(|cell| format!("<th scope=\"col\">{}</th>", escape(cell)))
        .collect();
    let row = |cells: &Vec<String>| {
        let cells: String = cells
            .iter()
            .enumerate()
            .map(|(at, cell)| match at {
                0 => format!("<th scope=\"row\">{}</th>", escape(cell)),
                _ => format!("<td>{}</td>", escape(cell)),
            })
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
         </table></div>\n"
    )
}

/// Text as HTML has to have it, inside of elements and of attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Neutral, in the colors that the reader's system has, light or dark.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c1c1c; --soft: #666; --rule: #d4d4d4; --ground: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --soft: #a0a0a0; --rule: #444; --ground: #181818; }
}
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 900px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .5rem 0; }
figure { margin: .5rem 0; }
figcaption { color: var(--soft); font-size: .9rem; display: flex; gap: 1.2rem; flex-wrap: wrap; }
figcaption i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
svg { max-width: 100%; height: auto; }
svg text { fill: var(--ink); font-family: system-ui, sans-serif; }
svg [stroke=\"#CCCCCC\"] { stroke: var(--rule); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--rule); text-align: right; }
th { font-weight: 600; }
th:first-child { text-align: left; font-weight: 400; }
table.facts th, table.facts td { text-align: left; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--soft); margin: .5rem 0; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_everywhere() {
        let evil = "<script>\"&'";
        let safe = "&lt;script&gt;&quot;&amp;&#39;";
        let table = table(&[evil], &[vec![evil.to_string(), evil.to_string()]]);
        for html in [
            page(evil, ""),
            section("id", evil, ""),
            paragraph(evil),
            table,
        ] {
            assert!(html.contains(safe) && !html.contains("<script"), "{html}");
        }
    }
}
