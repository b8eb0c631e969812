//<![CDATA[
"use strict";
// A trial that is pointed at is told about in the tip and stands out in every picture and table of its step.
(function () {
  var tip = document.getElementById("tip");
  document.querySelectorAll("section").forEach(function (section) {
    var source = section.querySelector("script.tips");
    if (!source) return;
    var tips = JSON.parse(source.textContent);
    var shown = null;
    function show(trial) {
      if (trial === shown) return;
      section.querySelectorAll(".hot").forEach(function (old) { old.classList.remove("hot"); });
      shown = trial;
      if (trial === null) { tip.classList.remove("on"); return; }
      section.querySelectorAll('[data-t="' + trial + '"]').forEach(function (mark) { mark.classList.add("hot"); });
      tip.textContent = tips[trial] || "trial " + trial;
      tip.classList.add("on");
    }
    section.addEventListener("pointermove", function (event) {
      var mark = event.target.closest("[data-t]");
      show(mark ? mark.getAttribute("data-t") : null);
      if (!mark) return;
      var right = event.clientX + 16 + tip.offsetWidth > window.innerWidth;
      var below = event.clientY + 18 + tip.offsetHeight > window.innerHeight;
      var x = right ? Math.max(4, event.clientX - 12 - tip.offsetWidth) : event.clientX + 16;
      var y = below ? Math.max(4, event.clientY - 12 - tip.offsetHeight) : event.clientY + 18;
      tip.style.transform = "translate(" + x + "px," + y + "px)";
    });
    section.addEventListener("pointerleave", function () { show(null); });
  });
})();
//]]>
