// Before anything is painted: the theme that was chosen here, else that of the system.
{
  const CHOICES = ["system", "light", "dark"];
  const root = document.documentElement;
  const kept = () => {
    const found = localStorage.getItem("theme");
    return CHOICES.includes(found) ? found : "system";
  };
  const apply = (choice) => {
    if (choice === "system") delete root.dataset.theme;
    else root.dataset.theme = choice;
  };
  apply(kept());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => { button.textContent = `Theme: ${kept()}`; };
    button.addEventListener("click", () => {
      const next = CHOICES[(CHOICES.indexOf(kept()) + 1) % CHOICES.length];
      localStorage.setItem("theme", next);
      apply(next);
      show();
    });
    show();
  });
}
