// Where a number comes from opens above the page; without scripts its link leads to the same text further down.
(() => {
  const dialog = document.getElementById("origin");
  const title = dialog.querySelector("h2");
  const body = dialog.querySelector(".body");

  const open = (origin) => {
    const [name, figures] = origin.querySelectorAll("summary > *");
    title.textContent = `${name.textContent}: ${figures.textContent}`;
    const copy = origin.querySelector(".origin").cloneNode(true);
    copy.removeAttribute("id");
    body.replaceChildren(copy);
    dialog.showModal();
    body.scrollTop = 0;
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#cell-"]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const target = document.getElementById(link.hash.slice(1));
    if (!target) return;
    event.preventDefault();
    open(target.closest("details"));
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("button")) dialog.close();
  });
})();
