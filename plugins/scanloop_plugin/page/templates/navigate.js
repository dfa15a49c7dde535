// Airflow shows this page in a sandboxed frame that may not navigate the window. Its router follows the history, so a link moves that.
// To be removed when Airflow's frame allows top navigation by a click.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-airflow]");
  const airflow = window.parent;
  if (!link || airflow === window || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  airflow.history.pushState(null, "", link.href);
  airflow.dispatchEvent(new airflow.PopStateEvent("popstate", { state: null }));
});
