# The formulas. Radiation in kWh/m2 a month, temperature in C, heights in m, lapse
# rates in K/m (positive: colder upwards), cloud cover n from 0 to 1.

#' Radiation that clouds let through.
#'   R = R_clear (1 - 0.75 n^3.4)        Kasten & Czeplak (1980), Solar Energy 24, 177-189
below_clouds <- function(clear, n) clear * (1 - 0.75 * n^3.4)

#' Share of the light that is diffuse under a cover n.
#'   k = k0 + (1 - k0) n^2               form of Kasten & Czeplak (1980); k0: of the clear sky
diffuse_share <- function(k0, n) k0 + (1 - k0) * n^2

#' Radiation here over that of flat open ground at the same height.
#' Direct light is taken apart from diffuse light because clouds turn the one into the
#' other: a factor common to both sides would cancel, and clouds have no effect.
#'   q = (1 - k) direct / direct_flat + k diffuse / diffuse_flat
#' n = 0: the ratio of the clear sky totals; n = 1: of the diffuse light only.
sun_quotient <- function(direct, diffuse, direct_flat, diffuse_flat, n) {
  k <- diffuse_share(diffuse_flat / (direct_flat + diffuse_flat), n)
  (1 - k) * direct / direct_flat + k * diffuse / diffuse_flat
}

#' Temperature of a cell from the coarse one.
#'   T = T_coarse - lapse (z - z_coarse) + C (q - 1/q) (1 - LAI / LAImax)
#' Boehner & Antonic (2009), Developments in Soil Science 33, 195-226
#' @param c sun coefficient (K)
#' @param leaf leaf area index over its maximum (0-1)
downscaled_temperature <- function(t_coarse, z_coarse, z, lapse, q, c, leaf) {
  t_coarse - lapse * (z - z_coarse) + c * (q - 1 / q) * (1 - leaf)
}
