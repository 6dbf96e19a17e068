# saga_cmd as a function that either leaves complete results or stops.

#' Run one SAGA tool.
#' Pinned: -c=1 (OpenMP in SAGA busy-waits; Snakemake runs the tiles in parallel
#' instead), TZ=UTC (8.5.0 shifts its dates by the local time zone).
#' Checked: SAGA exits with 0 even when it could not write its output, so the new
#' lines of the log must not say "failed" and every grid must have its full size.
#' @param library,tool e.g. "ta_lighting", 2
#' @param options named list; all of the tool's options, as defaults differ between versions
#' @param outputs grids (.sgrd) the tool must have written
#' @param size rows and columns of those grids, NULL: as their own headers say
#' @param log file to which SAGA's lines are appended at once: its progress
saga <- function(library, tool, options, outputs, log, size = NULL) {
  # SAGA would happily leave an older file in place of the one it failed to write.
  unlink(paste0(stem_all(outputs), ".sdat"))
  start <- if (file.exists(log)) file.size(log) else 0
  words <- c("saga_cmd", "-f=q", "-c=1", library, tool, option_words(options))
  status <- system(paste("TZ=UTC LC_ALL=C.UTF-8 OPENBLAS_NUM_THREADS=1", paste(shQuote(words), collapse = " "),
                         "</dev/null", ">>", shQuote(log), "2>&1"))
  what <- paste("saga_cmd", library, tool)
  if (status != 0) stop(what, " exited with status ", status, ", see ", log)
  complaints <- grep("(failed\\W*$)|(^Error)", lines_from(log, start), value = TRUE, ignore.case = TRUE, useBytes = TRUE)
  if (length(complaints)) stop(what, " exited with status 0 but said: ", trimws(complaints[1]))
  for (path in outputs) check_size(path, size, what)
}

option_words <- function(options) {
  values <- vapply(options, function(v) if (is.numeric(v)) format(v, digits = 15, scientific = FALSE) else v, "")
  paste0("-", names(options), "=", values)
}

#' The lines of a file from a byte on.
lines_from <- function(path, start) {
  con <- file(path, "rb")
  on.exit(close(con))
  seek(con, start)
  readLines(con, warn = FALSE, skipNul = TRUE)
}

check_size <- function(path, size, what) {
  data <- paste0(stem(path), ".sdat")
  if (!file.exists(data)) stop(what, " exited with status 0 but did not write ", data)
  h <- read_header(path)
  written <- as.integer(h[c("CELLCOUNT_Y", "CELLCOUNT_X")])
  if (!is.null(size) && any(written != size))
    stop(what, ": ", path, " has ", paste(written, collapse = " x "), " cells, not ", paste(size, collapse = " x "))
  bytes <- cell_bytes(h[["DATAFORMAT"]]) * prod(written)
  if (file.size(data) != bytes) stop(what, ": ", data, " has ", file.size(data), " bytes, not ", bytes)
}

#' Bytes of a cell; results are FLOAT, imported heights may be anything.
cell_bytes <- function(format) {
  sizes <- c(BYTE = 1, BYTE_UNSIGNED = 1, SHORTINT = 2, SHORTINT_UNSIGNED = 2, INTEGER = 4, INTEGER_UNSIGNED = 4,
             FLOAT = 4, DOUBLE = 8)
  if (!format %in% names(sizes)) stop("unknown data format of SAGA: ", format)
  sizes[[format]]
}
