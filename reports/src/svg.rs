//! Line charts as SVG, drawn with plotters' elements on a fixed canvas.
//!
//! Scales, ticks and label places are computed here and not by plotters' chart builder, because labels stand at line
//! ends and are moved apart, and because text has no measured size without fonts: widths are estimated generously.

use crate::palette::{Look, Marker};
use crate::scale::{Scale, apart, linear, logarithmic};
use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, DashedPathElement, PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE};

/// Canvas.
const SIZE: (u32, u32) = (960, 540);
/// Left, top and bottom edges of the plot.
const LEFT: i32 = 84;
const TOP: i32 = 64;
const BOTTOM: i32 = 472;
/// Lines of text above the plot that moments may take, and their height.
const BAND_MAX: usize = 5;
const BAND_LINE: i32 = 17;
/// Text of the body in pixels, and how wide a character of it is at most.
const FONT: i32 = 14;
const CHARACTER: i32 = 8;
const INK: RGBColor = RGBColor(34, 34, 34);
const GREY: RGBColor = RGBColor(102, 102, 102);
const GRID: RGBColor = RGBColor(225, 225, 225);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Pixel = (i32, i32);

/// One axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it shows, with its unit.
    pub title: String,
    /// Range: from zero where linear.
    pub range: (f64, f64),
    /// Ticks and their labels; labels that would overlap are left out.
    pub ticks: Vec<(f64, String)>,
    /// Logarithmic.
    pub log: bool,
}

impl Axis {
    /// An axis around `min..=max`. A logarithmic one labels each tick with `tick`; a linear one with the number over
    /// `factor`, its unit being in the title.
    pub fn new(
        title: String,
        log: bool,
        (min, max): (f64, f64),
        factor: f64,
        tick: impl Fn(f64) -> String,
    ) -> Self {
        let (range, ticks) = if log { logarithmic(min, max) } else { linear(max / factor) };
        let range = if log { range } else { (range.0 * factor, range.1 * factor) };
        let label = |at: f64| match log {
            true => (at, tick(at)),
            false => (at * factor, plain(at)),
        };
        Axis { title, range, ticks: ticks.into_iter().map(label).collect(), log }
    }
}

/// A number on a linear axis: rounded, because a tick is a multiple of a step.
fn plain(at: f64) -> String {
    if at.abs() >= 1000.0 {
        crate::human::thousands(at)
    } else {
        crate::human::trimmed(&format!("{at:.3}")).to_owned()
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Label at the line's end.
    pub label: String,
    /// Look.
    pub look: Look,
    /// Points: place, and whether it is drawn hollow.
    pub points: Vec<(f64, f64, bool)>,
}

/// Where labels of lines stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// In the right margin beside the lines' ends, which all lie at the right.
    Margin,
    /// Beside the ends inside the plot, stacked upwards where they meet; the lines have no markers.
    Ends,
    /// In the right margin like [`Labels::Margin`], on lines of many points, which have no markers.
    Plain,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Heading.
    pub title: String,
    /// Line below it.
    pub subtitle: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Lines.
    pub lines: Vec<Line>,
    /// Where labels stand.
    pub labels: Labels,
    /// Places to point out, with a text.
    pub marks: Vec<(f64, f64, String)>,
    /// Text in the right margin, a line each, with the look of a line.
    pub key: Vec<(Look, Vec<String>)>,
    /// Places on the horizontal axis at which something happened, rising: a dashed line each, its text above the plot.
    pub moments: Vec<(f64, String)>,
    /// Places that others have published, as crosses in the look of their line.
    pub published: Vec<(f64, f64, Look)>,
}

/// The chart as an SVG document.
pub fn render(plot: &Plot) -> String {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&root, plot).expect("drawing into a string does not fail");
        root.present().expect("drawing into a string does not fail");
    }
    titled(&text, &plot.title)
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn draw(root: &Area, plot: &Plot) -> Outcome {
    root.fill(&WHITE)?;
    let ends = plot.lines.iter().map(|line| bold_width(&line.label));
    let keys = plot.key.iter().flat_map(|(_, lines)| {
        lines.iter().enumerate().map(|(i, text)| bold_width(text) + if i == 0 { 40 } else { 0 })
    });
    let margin = if plot.labels == Labels::Ends { keys.max() } else { ends.max() }.unwrap_or(0);
    let right = SIZE.0 as i32 - 28 - margin.clamp(40, 280);
    let x = Scale::new(plot.x.log, plot.x.range, (LEFT, right));
    let (band, rows) = band(&plot.moments, &x, right);
    let top = TOP + BAND_LINE * rows;
    let y = Scale::new(plot.y.log, plot.y.range, (BOTTOM, top));
    text(root, &plot.title, (LEFT, 20), 18, INK, HPos::Left, true)?;
    text(root, &plot.subtitle, (LEFT, 43), 13, GREY, HPos::Left, false)?;
    axes(root, plot, &x, &y, (top, right))?;
    moments(root, &band)?;
    marks(root, plot, &x, &y, (top, right))?;
    for line in &plot.lines {
        let pixels: Vec<Pixel> = line.points.iter().map(|(px, py, _)| (x.pixel(*px), y.pixel(*py))).collect();
        stroke(root, &pixels, line.look)?;
        if plot.labels == Labels::Margin {
            for (pixel, (.., hollow)) in pixels.iter().zip(&line.points) {
                marker(root, *pixel, line.look, *hollow)?;
            }
        }
    }
    for (px, py, look) in &plot.published {
        cross(root, (x.pixel(*px), y.pixel(*py)), *look)?;
    }
    match plot.labels {
        Labels::Margin | Labels::Plain => margin_labels(root, plot, &x, &y, (top, right))?,
        Labels::Ends => end_labels(root, plot, &x, &y)?,
    }
    key(root, plot, right)
}

/// A moment as it is drawn: its pixel, its text with the side it stands on, and the height of that.
struct Told<'a> {
    at: i32,
    text: &'a str,
    anchor: HPos,
    height: i32,
}

/// Moments in lines above the plot, each in the first line that is free there; and how many lines these are.
fn band<'a>(moments: &'a [(f64, String)], x: &Scale, right: i32) -> (Vec<Told<'a>>, i32) {
    let mut ends: Vec<i32> = Vec::new();
    let mut told = Vec::new();
    for (at, text) in moments {
        let at = x.pixel(*at);
        let wide = width(text);
        // Texts stand right of their line, and left of it where the canvas ends.
        let left = at + 4 + wide > right + 60;
        let (from, to) = if left { (at - 4 - wide, at - 2) } else { (at - 2, at + 4 + wide) };
        let free = ends.iter().position(|end| *end + 8 <= from).unwrap_or(ends.len());
        if free == ends.len() {
            ends.push(to);
        } else {
            ends[free] = to;
        }
        let text = if free < BAND_MAX { text.as_str() } else { "" };
        let row = i32::try_from(free.min(BAND_MAX - 1)).expect("a few lines");
        let anchor = if left { HPos::Right } else { HPos::Left };
        told.push(Told { at, text, anchor, height: TOP + 4 + BAND_LINE * row });
    }
    (told, i32::try_from(ends.len().min(BAND_MAX)).expect("a few lines"))
}

fn moments(root: &Area, band: &[Told]) -> Outcome {
    for told in band {
        let line = [(told.at, told.height - 6), (told.at, BOTTOM)];
        root.draw(&DashedPathElement::new(line, 4, 4, GREY.stroke_width(1)))?;
    }
    for told in band {
        let side = if matches!(told.anchor, HPos::Right) { -4 } else { 4 };
        text(root, told.text, (told.at + side, told.height), 13, INK, told.anchor, false)?;
    }
    Ok(())
}

fn axes(root: &Area, plot: &Plot, x: &Scale, y: &Scale, (top, right): (i32, i32)) -> Outcome {
    for (at, label) in &plot.y.ticks {
        let py = y.pixel(*at);
        root.draw(&PathElement::new([(LEFT, py), (right, py)], GRID.stroke_width(1)))?;
        text(root, label, (LEFT - 8, py), FONT, INK, HPos::Right, false)?;
    }
    let mut free = i32::MIN;
    for (at, label) in &plot.x.ticks {
        let px = x.pixel(*at);
        root.draw(&PathElement::new([(px, top), (px, BOTTOM)], GRID.stroke_width(1)))?;
        root.draw(&PathElement::new([(px, BOTTOM), (px, BOTTOM + 5)], INK.stroke_width(1)))?;
        let half = width(label) / 2;
        if px - half >= free {
            text(root, label, (px, BOTTOM + 17), FONT, INK, HPos::Center, false)?;
            free = px + half + 6;
        }
    }
    root.draw(&PathElement::new([(LEFT, top), (LEFT, BOTTOM), (right, BOTTOM)], INK.stroke_width(1)))?;
    text(root, &plot.x.title, ((LEFT + right) / 2, BOTTOM + 44), FONT, INK, HPos::Center, false)?;
    let style = style(FONT, INK, HPos::Center, false).transform(FontTransform::Rotate270);
    root.draw_text(&printable(&plot.y.title), &style, (16, (top + BOTTOM) / 2))?;
    Ok(())
}

/// Crossings: a ring, and a dashed line to the texts, which are stacked where there is more room, above or below.
/// Crossings that nearly coincide share ring and line.
fn marks(root: &Area, plot: &Plot, x: &Scale, y: &Scale, (top, right): (i32, i32)) -> Outcome {
    let mut marks: Vec<(Pixel, &str)> = plot
        .marks
        .iter()
        .map(|(at, height, label)| ((x.pixel(*at), y.pixel(*height)), label.as_str()))
        .collect();
    marks.sort_by_key(|mark| mark.0.0); // stable
    let above = marks.iter().all(|mark| mark.0.1 > (top + BOTTOM) / 2);
    let mut column = i32::MIN;
    for (i, ((px, py), label)) in marks.iter().enumerate() {
        let end = if above { top + 14 + 18 * i as i32 } else { BOTTOM - 12 - 18 * i as i32 };
        if *px >= column.saturating_add(10) {
            column = *px;
            let edge = if above { top + 6 } else { BOTTOM };
            root.draw(&DashedPathElement::new([(column, edge), (column, *py)], 3, 3, GREY.stroke_width(1)))?;
            root.draw(&Circle::new((column, *py), 8, GREY.stroke_width(1)))?;
        }
        let left = column + 8 + width(label) > right;
        let (side, anchor) = if left { (column - 8, HPos::Right) } else { (column + 8, HPos::Left) };
        backdrop(root, (side, end), label, anchor)?;
        text(root, label, (side, end), 13, INK, anchor, false)?;
    }
    Ok(())
}

/// Labels at the right, moved apart, with a thin leader where one was moved.
fn margin_labels(root: &Area, plot: &Plot, x: &Scale, y: &Scale, (top, right): (i32, i32)) -> Outcome {
    let lines: Vec<(&Line, Pixel)> = plot
        .lines
        .iter()
        .filter_map(|line| line.points.last().map(|(px, py, _)| (line, (x.pixel(*px), y.pixel(*py)))))
        .collect();
    let wanted: Vec<i32> = lines.iter().map(|(_, end)| end.1).collect();
    for ((line, end), place) in lines.iter().zip(apart(&wanted, FONT + 4, (top, BOTTOM - 6))) {
        let colour = line.look.colour;
        root.draw(&PathElement::new([(end.0 + 7, end.1), (right + 16, place)], colour.stroke_width(1)))?;
        text(root, &line.label, (right + 20, place), FONT, colour, HPos::Left, true)?;
    }
    Ok(())
}

/// Labels beside line ends inside the plot, moved up until free of earlier ones.
fn end_labels(root: &Area, plot: &Plot, x: &Scale, y: &Scale) -> Outcome {
    let mut ends: Vec<(&Line, Pixel)> = plot
        .lines
        .iter()
        .filter(|line| !line.label.is_empty())
        .filter_map(|line| line.points.last().map(|(px, py, _)| (line, (x.pixel(*px), y.pixel(*py)))))
        .collect();
    ends.sort_by_key(|(_, end)| (end.0, end.1)); // stable
    let mut taken: Vec<(i32, i32, i32)> = Vec::new();
    for (line, end) in ends {
        let (from, to) = (end.0 + 8, end.0 + 8 + width(&line.label));
        let mut place = end.1 - 12;
        while taken.iter().any(|(f, t, at)| from < *t && *f < to && (place - at).abs() < FONT + 4) {
            place -= 2;
        }
        taken.push((from, to, place));
        backdrop(root, (from, place), &line.label, HPos::Left)?;
        text(root, &line.label, (from, place), FONT, line.look.colour, HPos::Left, true)?;
    }
    Ok(())
}

/// Samples of lines and their texts, from the top of the right margin.
fn key(root: &Area, plot: &Plot, right: i32) -> Outcome {
    let mut place = TOP + 10;
    for (look, lines) in &plot.key {
        stroke(root, &[(right + 16, place), (right + 52, place)], *look)?;
        for (i, line) in lines.iter().enumerate() {
            let (left, colour) = if i == 0 { (right + 60, look.colour) } else { (right + 16, INK) };
            text(root, line, (left, place), FONT, colour, HPos::Left, i == 0)?;
            place += 19;
        }
        place += 12;
    }
    Ok(())
}

fn stroke(root: &Area, pixels: &[Pixel], look: Look) -> Outcome {
    let style = look.colour.stroke_width(2);
    if pixels.len() < 2 {
        return Ok(());
    }
    match look.dash {
        None => root.draw(&PathElement::new(pixels.to_vec(), style))?,
        Some((dash, gap)) => root.draw(&DashedPathElement::new(pixels.to_vec(), dash, gap, style))?,
    }
    Ok(())
}

/// A marker, filled with its colour or, if hollow, with white. A square is larger than a triangle, so that both are
/// seen where lines coincide.
fn marker(root: &Area, (px, py): Pixel, look: Look, hollow: bool) -> Outcome {
    let shape: Vec<Pixel> = match look.marker {
        Marker::Circle => {
            root.draw(&Circle::new((px, py), 5, if hollow { WHITE.filled() } else { look.colour.filled() }))?;
            root.draw(&Circle::new((px, py), 5, look.colour.stroke_width(2)))?;
            return Ok(());
        }
        Marker::Square => vec![(px - 6, py - 6), (px + 6, py - 6), (px + 6, py + 6), (px - 6, py + 6)],
        Marker::Triangle => vec![(px, py - 5), (px + 5, py + 4), (px - 5, py + 4)],
        Marker::Diamond => vec![(px, py - 6), (px + 6, py), (px, py + 6), (px - 6, py)],
    };
    let outline: Vec<Pixel> = shape.iter().chain(&shape[..1]).copied().collect();
    root.draw(&Polygon::new(shape, if hollow { WHITE } else { look.colour }))?;
    root.draw(&PathElement::new(outline, look.colour.stroke_width(2)))?;
    Ok(())
}

/// A cross over white, so that it is seen on its line.
fn cross(root: &Area, (px, py): Pixel, look: Look) -> Outcome {
    let strokes =
        |by: i32| [[(px - by, py - by), (px + by, py + by)], [(px - by, py + by), (px + by, py - by)]];
    for line in strokes(7) {
        root.draw(&PathElement::new(line, WHITE.stroke_width(5)))?;
    }
    for line in strokes(6) {
        root.draw(&PathElement::new(line, look.colour.stroke_width(3)))?;
    }
    Ok(())
}

/// White behind a text, so that lines do not strike it through.
fn backdrop(root: &Area, (px, py): Pixel, label: &str, anchor: HPos) -> Outcome {
    let wide = label.chars().count() as i32 * 7;
    let left = if matches!(anchor, HPos::Right) { px - wide } else { px };
    let white: ShapeStyle = WHITE.mix(0.8).filled();
    root.draw(&Rectangle::new([(left - 1, py - 8), (left + wide + 1, py + 8)], white))?;
    Ok(())
}

fn text(
    root: &Area,
    label: &str,
    at: Pixel,
    size: i32,
    colour: RGBColor,
    anchor: HPos,
    bold: bool,
) -> Outcome {
    root.draw_text(&printable(label), &style(size, colour, anchor, bold), at)?;
    Ok(())
}

/// Text of `size` pixels; plotters writes sizes divided by 1.24 into SVG.
fn style(size: i32, colour: RGBColor, anchor: HPos, bold: bool) -> TextStyle<'static> {
    let font = ("sans-serif", f64::from(size) * 1.24).into_font();
    let font = if bold { font.style(FontStyle::Bold) } else { font };
    TextStyle { font, color: colour.to_backend_color(), pos: Pos::new(anchor, VPos::Center) }
}

/// Text without control characters, which XML forbids; plotters escapes the rest.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn width(label: &str) -> i32 {
    label.chars().count() as i32 * CHARACTER
}

fn bold_width(label: &str) -> i32 {
    label.chars().count() as i32 * (CHARACTER + 1)
}

/// The document with a title and a role for screen readers, and no fixed size beyond its view box.
fn titled(svg: &str, title: &str) -> String {
    let (head, rest) = svg.split_once('>').expect("an SVG document has a root");
    let title = printable(title).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("{head} role=\"img\">\n<title>{title}</title>{rest}")
}
