const buttons = document.querySelectorAll("[data-show]");
const cards = document.querySelectorAll("[data-groups]");
const type = document.getElementById("type");
const words = document.getElementById("words");
let group = "all";
function filter() {
  const terms = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const card of cards) {
    const matches = (group === "all" || card.dataset.groups.split("|").includes(group))
      && (!type || !type.value || card.dataset.types.split("|").includes(type.value))
      && terms.every((word) => card.dataset.words.includes(word));
    card.hidden = !matches;
    count += matches;
  }
  document.getElementById("shown").textContent = `${count} of ${cards.length} shown`;
}
for (const button of buttons) {
  button.addEventListener("click", () => {
    group = button.dataset.show;
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    filter();
  });
}
document.querySelector(".filters").hidden = false;
words.addEventListener("input", filter);
if (type) type.addEventListener("change", filter);
