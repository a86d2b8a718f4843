# Measured figures beside their aims and peers. Reads, in this order,
#
#   docs/gpu-status.md  rows | figure | benchmark | unit | floor | target | peer |
#   measured.jsonl      what benchmarks measured: a line for each
#   peers.jsonl         what peers measured in the same run
#
# and prints a row for each aim. "faster" is the time of the fastest peer over ours.

function text_of(line, key,   found) {
  if (!match(line, "\"" key "\": \"[^\"]*\"")) return ""
  found = substr(line, RSTART, RLENGTH)
  sub(/^"[^"]*": "/, "", found)
  sub(/"$/, "", found)
  return found
}

function number_of(line, key,   found) {
  if (!match(line, "\"" key "\": -?[0-9][^,}]*")) return ""
  found = substr(line, RSTART, RLENGTH)
  sub(/^"[^"]*": /, "", found)
  return found + 0
}

function trimmed(cell) {
  gsub(/^[ `]+|[ `]+$/, "", cell)
  return cell
}

# The figure of a line in a unit, or "".
function figure(line, unit,   x) {
  if (unit == "TFLOP/s") { x = number_of(line, "flops_per_second"); return x == "" ? "" : x / 1e12 }
  if (unit == "TB/s") { x = number_of(line, "bytes_per_second"); return x == "" ? "" : x / 1e12 }
  if (unit == "GB") { x = number_of(line, "extra_bytes"); return x == "" ? "" : x / 1e9 }
  if (unit == "% of copy") { x = number_of(line, "share_of_copy"); return x == "" ? "" : 100 * x }
  if (unit == "% of read") { x = number_of(line, "share_of_read"); return x == "" ? "" : 100 * x }
  if (unit == "tokens/s") return number_of(line, "tokens_per_second")
  if (unit == "passes/s") return number_of(line, "cycles_per_second")
  if (unit == "ms") { x = number_of(line, "seconds"); return x == "" ? "" : 1e3 * x }
  return ""
}

function shown(x) { return x == "" ? "-" : x >= 100 ? sprintf("%.0f", x) : sprintf("%.3g", x) }

FILENAME == ARGV[1] && /^\| / && split($0, cell, "|") >= 8 {
  unit = trimmed(cell[4])
  if (unit !~ /^(TFLOP\/s|TB\/s|GB|% of copy|% of read|tokens\/s|passes\/s|ms)$/) next
  aims += 1
  figure_of[aims] = trimmed(cell[2]); benchmark_of[aims] = trimmed(cell[3]); unit_of[aims] = unit
  floor_of[aims] = trimmed(cell[5]); target_of[aims] = trimmed(cell[6]); peer_of[aims] = trimmed(cell[7])
}
FILENAME == ARGV[2] { name = text_of($0, "name"); if (name != "" && !(name in measured)) { measured[name] = $0; order[++count] = name } }
FILENAME == ARGV[3] { name = text_of($0, "name"); if (name != "") peer_line[++peers] = $0 }

# The first benchmark whose name begins so.
function measured_by(prefix,   i) {
  for (i = 1; i <= count; ++i) if (index(order[i], prefix) == 1) return measured[order[i]]
  return ""
}

# The seconds of the fastest peer whose name begins so. Sets best_kind.
function fastest_peer(prefix,   i, x, best) {
  best = ""
  for (i = 1; i <= peers; ++i) {
    if (index(text_of(peer_line[i], "name"), prefix) != 1) continue
    x = number_of(peer_line[i], "seconds")
    if (x != "" && (best == "" || x < best)) { best = x; best_kind = text_of(peer_line[i], "kind") }
  }
  return best
}

END {
  printf "%-38s %9s %6s %6s %-10s %-26s %6s  %s\n", "figure", "measured", "floor", "target", "unit", "fastest peer", "faster", "verdict"
  for (i = 1; i <= aims; ++i) {
    line = measured_by(benchmark_of[i])
    x = line == "" ? "" : figure(line, unit_of[i])
    seconds = line == "" ? "" : number_of(line, "seconds")
    less = unit_of[i] == "ms" || unit_of[i] == "GB"
    if (line == "") verdict = "not run"
    else if (text_of(line, "error") != "") verdict = text_of(line, "error")
    else if (x == "") verdict = "no figure"
    else if (target_of[i] == "-") verdict = "measured"
    else if (less ? x <= target_of[i] + 0 : x >= target_of[i] + 0) verdict = "reached"
    else if (less ? x <= floor_of[i] + 0 : x >= floor_of[i] + 0) verdict = "above the floor"
    else verdict = "MISSED"
    peer = peer_of[i] == "-" ? "" : fastest_peer(peer_of[i])
    printf "%-38s %9s %6s %6s %-10s %-26s %6s  %s\n", figure_of[i], shown(x), floor_of[i], target_of[i], unit_of[i],
      peer == "" ? "-" : substr(best_kind, 1, 15) " " shown(1e3 * peer) " ms",
      peer == "" || seconds == "" ? "-" : sprintf("%.2f", peer / seconds), verdict
  }
}
