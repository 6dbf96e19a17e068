# What every script needs to be a well-behaved job.

#' Start an empty log: messages, warnings and errors of R go there, and SAGA appends.
open_log <- function(path) {
  file.create(path)
  con <- file(path, "a")
  sink(con, type = "message")
  invisible(path)
}

say <- function(...) message(sprintf(...))

#' Arguments key=value of the command line as a list of strings.
read_arguments <- function(keys) {
  words <- commandArgs(TRUE)
  values <- as.list(sub("^[^=]*=", "", words))
  names(values) <- sub("=.*", "", words)
  missing <- setdiff(keys, names(values))
  if (length(missing)) stop("missing argument: ", paste0(missing, "=", collapse = " "))
  values
}

#' A fresh folder for intermediate files. It lies beside the output, not in the node's
#' own /tmp: a process restored on another node finds it under the same absolute path.
#' Removed when R ends, also by an error; what a killed R left is removed by the next.
scratch_folder <- function(beside) {
  path <- file.path(normalizePath(dirname(beside[1])), ".scratch")
  unlink(path, recursive = TRUE)
  if (!dir.create(path)) stop("cannot create ", path)
  reg.finalizer(globalenv(), function(e) unlink(path, recursive = TRUE), onexit = TRUE)
  path
}

write_table <- function(data, path) {
  write.table(format(data, digits = 8, trim = TRUE), path, sep = "\t", quote = FALSE, row.names = FALSE)
}
