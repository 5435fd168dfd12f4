// What is wider than the page scrolls: let the keyboard reach it.
function markScrolled() {
  for (const each of document.querySelectorAll("pre, .table-wrapper")) {
    if (each.scrollWidth > each.clientWidth) {
      each.tabIndex = 0;
    } else {
      each.removeAttribute("tabindex");
    }
  }
}
addEventListener("load", markScrolled);
addEventListener("resize", markScrolled);
